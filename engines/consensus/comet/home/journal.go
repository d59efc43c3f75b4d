package home

import (
	"encoding/binary"
	"fmt"

	"github.com/syndtr/goleveldb/leveldb/util"
)

// A file of goleveldb's journal format (the journal of a database, and its MANIFEST) is a sequence
// of blocks. A block is a sequence of chunks, and perhaps padding:
//
//	checksum u32 | length u16 | kind u8 | data
//
// The checksum covers the kind and the data. Numbers are little-endian.
const (
	journalBlock  = 32 << 10
	journalHeader = 7
)

// checkJournal returns an error for a journal that has other bytes than were written. goleveldb
// itself skips a damaged part, and so loses what was written there. An incomplete chunk at the end
// is no damage: a process that was killed while it wrote leaves one.
func checkJournal(data []byte) error {
	for at := 0; at < len(data); at += journalBlock {
		block := data[at:min(at+journalBlock, len(data))]
		last := at+journalBlock >= len(data)

		for i := 0; i+journalHeader <= len(block); {
			n, ok := journalChunk(block[i:])
			switch {
			case ok:
				i += n

			case allZero(block[i:]):
				i = len(block) // padding

			case last && n > len(block)-i && !holdsChunk(block[i+1:]):
				return nil // the end was not written

			default:
				return fmt.Errorf("the chunk at byte %d does not match its checksum", at+i)
			}
		}
	}

	return nil
}

// journalChunk returns the size of the chunk at the beginning of b, by its header, and whether the
// chunk matches its checksum.
func journalChunk(b []byte) (n int, ok bool) {
	n = journalHeader + int(binary.LittleEndian.Uint16(b[4:]))
	if n > len(b) || b[6] == 0 || b[6] > 4 {
		return n, false
	}
	return n, binary.LittleEndian.Uint32(b) == util.NewCRC(b[6:n]).Value()
}

// holdsChunk reports whether a chunk begins anywhere in b. If so, the end of the journal was
// written, and what is before the chunk is damaged.
func holdsChunk(b []byte) bool {
	for i := 0; i+journalHeader <= len(b); i++ {
		if _, ok := journalChunk(b[i:]); ok {
			return true
		}
	}
	return false
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
