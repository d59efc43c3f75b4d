package segment

import (
	"encoding/binary"
	"math"
)

// candidate reports whether b begins with what may be the header of the frame at offset, so that
// the frame is worth decoding. It quickly rejects zeros and old bytes of a recycled file.
func candidate(b []byte, seed Seed, offset int64, from uint64) bool {
	first := binary.LittleEndian.Uint64(b[8:])
	// The frames of an older segment have lower indexes, zeros have none, and no batch skips 2^40
	// records.
	if first < from || first-from > 1<<40 {
		return false
	}
	_, _, err := DecodeHeaderAt(b, seed, offset)
	return err == nil
}

// Find returns the position in b of the next good frame header whose first index is at least from,
// or -1. b begins at offset of the segment. Both offsets are multiples of Align. Find does not look
// at the content of the frame.
func Find(b []byte, seed Seed, offset int64, from uint64) int {
	for i := 0; i+FrameHeaderSize <= len(b) && i < math.MaxInt-Align; i += Align {
		if candidate(b[i:], seed, offset+int64(i), from) {
			return i
		}
	}
	return -1
}
