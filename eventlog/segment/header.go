package segment

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"
)

const (
	// HeaderSize is the size of a segment's header in bytes, and so the offset of its first frame.
	HeaderSize = 4096
	// Version is the format that this package writes, and the newest that it reads.
	Version = 1

	crcOffset = HeaderSize - 4 // the same in every version, so that a newer header is not taken for damage
)

var (
	magic      = []byte("COPPICE\n")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)

	// ErrVersion means that a header is intact and of a newer format.
	ErrVersion = errors.New("segment has a newer format version")
)

// Header is the beginning of a segment file.
type Header struct {
	ID         [16]byte // identity of the log
	Number     uint64   // of the segment in its log, from 1; the file is named after it
	FirstIndex uint64   // index of the segment's first record
	PrevSeal   Seal     // of the segment before; zero in a log's first segment
	Recycled   bool     // the file held an older segment, so the bytes after the frames are not zeros
}

// Seal is the end of a segment: the offset and the checksum of its last frame.
type Seal struct {
	Offset uint64
	CRC    uint32
}

// Append appends the header's HeaderSize bytes to dst.
func (h Header) Append(dst []byte) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	b := dst[at:]
	copy(b, magic)
	binary.LittleEndian.PutUint32(b[8:], Version)
	if h.Recycled {
		binary.LittleEndian.PutUint32(b[12:], 1)
	}

	copy(b[16:], h.ID[:])
	binary.LittleEndian.PutUint64(b[32:], h.Number)
	binary.LittleEndian.PutUint64(b[40:], h.FirstIndex)
	binary.LittleEndian.PutUint64(b[48:], h.PrevSeal.Offset)
	binary.LittleEndian.PutUint32(b[56:], h.PrevSeal.CRC)
	binary.LittleEndian.PutUint32(b[crcOffset:], crc32.Checksum(b[:crcOffset], castagnoli))

	return dst
}

// DecodeHeader decodes a header from the first HeaderSize bytes of a segment. The error says what
// is wrong, and is ErrVersion if only the version is.
func DecodeHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, fmt.Errorf("segment header has %d bytes, want %d", len(b), HeaderSize)
	}
	b = b[:HeaderSize]
	if !bytes.Equal(b[:8], magic) {
		return Header{}, fmt.Errorf("segment begins with %q, want %q", b[:8], magic)
	}
	want := binary.LittleEndian.Uint32(b[crcOffset:])
	if got := crc32.Checksum(b[:crcOffset], castagnoli); got != want {
		return Header{}, fmt.Errorf("segment header has checksum %08x, want %08x", got, want)
	}

	switch v := binary.LittleEndian.Uint32(b[8:]); {
	case v > Version:
		return Header{}, fmt.Errorf("%w: %d, this program reads up to %d", ErrVersion, v, Version)
	case v == 0:
		return Header{}, errors.New("segment header has version 0")
	}

	h := Header{
		ID:         [16]byte(b[16:32]),
		Number:     binary.LittleEndian.Uint64(b[32:]),
		FirstIndex: binary.LittleEndian.Uint64(b[40:]),
		PrevSeal:   Seal{Offset: binary.LittleEndian.Uint64(b[48:]), CRC: binary.LittleEndian.Uint32(b[56:])},
		Recycled:   binary.LittleEndian.Uint32(b[12:])&1 != 0,
	}
	if h.Number == 0 || h.FirstIndex == 0 {
		return Header{}, fmt.Errorf("segment header has number %d and first index %d, want both from 1", h.Number,
			h.FirstIndex)
	}

	return h, nil
}

// Seed is the key of the checksums of a segment's frames.
type Seed struct {
	crc uint32
	key uint64
}

// Seed returns the segment's seed.
func (h Header) Seed() Seed {
	var in [32]byte
	copy(in[:], h.ID[:])
	binary.LittleEndian.PutUint64(in[16:], h.Number)
	binary.LittleEndian.PutUint64(in[24:], h.FirstIndex)
	sum := sha256.Sum256(in[:])
	return Seed{crc: binary.LittleEndian.Uint32(sum[:]), key: binary.LittleEndian.Uint64(sum[8:])}
}

// check returns the 24 bits with which a frame header covers its own fields and its offset.
func (s Seed) check(offset int64, length, count uint32, first, synced uint64, flags Flags) uint32 {
	h := s.key
	for _, v := range [...]uint64{uint64(offset), uint64(length)<<32 | uint64(count), first,
		synced ^ uint64(flags)<<56} {
		hi, lo := bits.Mul64(h^v, 0x9e3779b97f4a7c15)
		h = bits.RotateLeft64(hi^lo, 29) + s.key
	}
	h ^= h >> 32
	return uint32(h) >> 8
}

// RaiseVersion changes the header at the beginning of a segment's bytes to the next format version.
// It is for tests of programs that must refuse such a log.
func RaiseVersion(b []byte) {
	binary.LittleEndian.PutUint32(b[8:], Version+1)
	binary.LittleEndian.PutUint32(b[crcOffset:], crc32.Checksum(b[:crcOffset], castagnoli))
}
