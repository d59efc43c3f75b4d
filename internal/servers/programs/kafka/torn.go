package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
)

// indexEntry is the length of an entry of kfake's index of a segment. The segment itself has one
// batch for each entry.
const indexEntry = 15

// cutTorn removes the batches that have no entry in the index of their segment. kfake writes a batch
// and then its entry, and answers after both. A crash between the two leaves a batch that no client
// was told of. The entry says whether the batch is part of a transaction: kfake, when it is started
// again, takes a batch without one for committed.
func cutTorn(dir string) error {
	segments, err := filepath.Glob(filepath.Join(dir, "partitions", "*", "*.dat"))
	if err != nil {
		return err
	}
	for _, path := range segments {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		index, err := os.ReadFile(strings.TrimSuffix(path, ".dat") + ".idx")
		if err != nil && !os.IsNotExist(err) {
			return err
		}

		whole := 0 // the length of the batches with an entry
		for range len(index) / indexEntry {
			if whole+12 > len(data) {
				break
			}
			whole += 12 + int(binary.BigEndian.Uint32(data[whole+8:]))
		}
		if whole < len(data) {
			if err := os.Truncate(path, int64(whole)); err != nil {
				return err
			}
		}
	}

	return nil
}
