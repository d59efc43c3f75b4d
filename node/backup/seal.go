package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
)

// seal returns the content of backup.json, with the digests of the files beside it and its own
// digest.
func (w *Writer) seal() ([]byte, error) {
	names := []string{chain.GenesisFile, config.FileName}
	if w.info.Token {
		names = append(names, api.TokenFileName)
	}

	w.info.Files = make(map[string]snapshots.Hex)

	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(w.tmp, name))
		if err != nil {
			return nil, fmt.Errorf("backup: %w", err)
		}
		sum := sha256.Sum256(data)
		w.info.Files[name] = sum[:]
	}

	w.info.Sum = make(snapshots.Hex, sha256.Size)
	data, err := json.MarshalIndent(w.info, "", "  ")
	if err != nil {
		return nil, err
	}

	data = append(data, '\n')
	blank := sumField(w.info.Sum)
	sum := sha256.Sum256(withoutSum(data, w.info.Sum))
	w.info.Sum = sum[:]
	return bytes.Replace(data, blank, sumField(w.info.Sum), 1), nil
}

// withoutSum returns data with an empty digest in the place of sum. The digest of backup.json is
// computed over these bytes.
func withoutSum(data []byte, sum snapshots.Hex) []byte {
	return bytes.Replace(data, sumField(sum), sumField(nil), 1)
}

// sumField returns the field of backup.json that has the digest.
func sumField(sum snapshots.Hex) []byte { return []byte(`"sum": "` + sum.String() + `"`) }

// checkSum returns an error if data, the content of backup.json, does not match its own digest. The
// first format had no digest.
func (b Info) checkSum(path string, data []byte) error {
	if b.Format == 1 && b.Sum == nil && b.Files == nil {
		return nil
	}
	if sum := sha256.Sum256(withoutSum(data, b.Sum)); b.Format == 1 || !bytes.Equal(sum[:], b.Sum) {
		return fmt.Errorf("%w: %s was changed: its digest is %x, want %v", exit.ErrDamage, path, sum, b.Sum)
	}
	return nil
}

// checkFiles checks the files beside the log and the snapshot against their digests.
func (b Info) checkFiles(src string) error {
	for _, name := range []string{chain.GenesisFile, config.FileName, api.TokenFileName} {
		want, listed := b.Files[name]
		if !listed && (b.Format == 1 || name == api.TokenFileName) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(src, name))
		if err != nil {
			return err
		}
		if sum := sha256.Sum256(data); !bytes.Equal(sum[:], want) {
			return fmt.Errorf("%s was changed: its digest is %x, want %v", name, sum, want)
		}
	}
	return nil
}
