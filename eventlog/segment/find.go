package segment

import (
	"encoding/binary"
	"math"
)

// Candidate tells whether b begins with what may be the header of the frame at offset, so that the
// frame is worth decoding. It passes over zeros and over old bytes of a recycled file quickly.
func candidate(b []byte, seed Seed, offset int64, from uint64) bool {
	first := binary.LittleEndian.Uint64(b[8:])
	// An older segment's frames have lower indexes, zeros have none, and no batch skips 2^40
	// records.
	if first < from || first-from > 1<<40 {
		return false
	}
	_, _, err := DecodeHeaderAt(b, seed, offset)
	return err == nil
}

// Find returns the place in b, which begins at offset of the segment, of the next frame header that
// checks and whose first index is at least from; or -1. Both offsets are multiples of Align. The
// content of the frame is not looked at.
func Find(b []byte, seed Seed, offset int64, from uint64) int {
	for i := 0; i+FrameHeaderSize <= len(b) && i < math.MaxInt-Align; i += Align {
		if candidate(b[i:], seed, offset+int64(i), from) {
			return i
		}
	}
	return -1
}
