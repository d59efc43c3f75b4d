// Package recordlog checks files in LevelDB's format of a log: the journals of goleveldb, and the
// MANIFEST of goleveldb and of Pebble.
//
// Such a file is a sequence of blocks of 32 KiB. A block is a sequence of chunks, and perhaps
// padding:
//
//	checksum u32 | length u16 | kind u8 | data
//
// The checksum covers the kind and the data. Numbers are little-endian.
package recordlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

const (
	journalBlock  = 32 << 10
	journalHeader = 7
)

// Check returns an error for a log that has other bytes than were written. The databases themselves
// skip a damaged part, or end there, and so lose what was written. An incomplete chunk at the end
// is no damage: a process that was killed while it wrote leaves one.
func Check(data []byte) error {
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

			case last && n > len(block)-i && !written(block[i:]):
				return nil

			default:
				return mismatch(at + i)
			}
		}
	}

	return nil
}

// CheckSynced is Check for a log whose writer does not sync each record. What a power failure may
// have left of the records since the last sync is no damage, wherever it ends. A record that has
// mark was synced, with all before it.
func CheckSynced(data, mark []byte) error {
	var damage error

	for at := 0; at < len(data); at += journalBlock {
		block := data[at:min(at+journalBlock, len(data))]

		for i := 0; i+journalHeader <= len(block); {
			n, ok := journalChunk(block[i:])
			switch {
			case ok && damage != nil && bytes.Contains(block[i:i+n], mark):
				return damage
			case ok:
				i += n
			case allZero(block[i:]):
				i = len(block) // padding
			default:
				if damage == nil {
					damage = mismatch(at + i)
				}
				i++ // the damage may be in the length, so the next chunk may begin anywhere
			}
		}
	}

	return nil
}

func mismatch(at int) error {
	return fmt.Errorf("the chunk at byte %d does not match its checksum", at)
}

// journalChunk returns the size of the chunk at the beginning of b, by its header, and whether the
// chunk matches its checksum.
func journalChunk(b []byte) (n int, ok bool) {
	n = journalHeader + int(binary.LittleEndian.Uint16(b[4:]))
	if n > len(b) || b[6] == 0 || b[6] > 4 {
		return n, false
	}
	return n, binary.LittleEndian.Uint32(b) == checksum(b[6:n])
}

// written reports whether b, which begins with a chunk whose length reaches beyond b, was written
// to its end, so that the length is damaged: the chunk matches its checksum with what is there, or
// another chunk begins in it.
func written(b []byte) bool {
	if binary.LittleEndian.Uint32(b) == checksum(b[6:]) {
		return true
	}
	for i := 1; i+journalHeader <= len(b); i++ {
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

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum returns the checksum of b in LevelDB's masked form.
func checksum(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}
