package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

const (
	// FrameHeaderSize is the size, in bytes, of the header before a frame's records.
	FrameHeaderSize = 32
	// Align divides the offset and the size of every frame. It is in bytes.
	Align = 8
	// maxPayload bounds the size of a frame's records, in bytes.
	maxPayload = math.MaxUint32 - 64
)

// Flags say what a frame is if it does not hold records.
type Flags uint8

const (
	// FlagSeal marks the last frame of a segment. It holds no records.
	FlagSeal Flags = 1 << 0
	// FlagMark marks a frame without records. Its Synced says what is durable before it, and that
	// is all it says.
	FlagMark Flags = 1 << 1

	// FlagGap marks a frame in place of records that were lost before this log was made. Its count
	// is their number, or 0 if that is unknown. Its payload is the reason, as text.
	FlagGap Flags = 1 << 2
)

// Frame is a decoded frame.
type Frame struct {
	First   uint64 // index of the first record, or of the next record if the frame has none
	Count   uint32 // number of records, or of lost records
	Flags   Flags
	Synced  uint64 // offset up to which the segment was durable before this frame was written
	CRC     uint32
	Payload []byte // records or reason of a gap, without padding; part of the decoded buffer
}

// Next returns the index at which the next frame begins.
func (f Frame) Next() uint64 { return f.First + uint64(f.Count) }

// FrameSize returns the size, in bytes, of a frame with this many bytes of records.
func FrameSize(payload int) int64 {
	return FrameHeaderSize + (int64(payload)+Align-1)&^(Align-1)
}

// Finish makes a frame of b for the given offset of the segment. The first FrameHeaderSize bytes of
// b are free, and the rest are records as AppendRecord makes them. Finish returns b with padding.
// It does not use f.Payload and f.CRC.
func Finish(b []byte, seed Seed, offset int64, f Frame) []byte {
	length := uint32(len(b) - FrameHeaderSize)
	for len(b)%Align != 0 {
		b = append(b, 0)
	}

	binary.LittleEndian.PutUint32(b[4:], length)
	binary.LittleEndian.PutUint64(b[8:], f.First)
	binary.LittleEndian.PutUint32(b[16:], f.Count)
	binary.LittleEndian.PutUint32(b[20:],
		seed.check(offset, length, f.Count, f.First, f.Synced, f.Flags)<<8|uint32(f.Flags))
	binary.LittleEndian.PutUint64(b[24:], f.Synced)
	binary.LittleEndian.PutUint32(b, crc32.Update(seed.crc, castagnoli, b[4:]))

	return b
}

// Reasons why a frame cannot be read.
var (
	// ErrShort means that the buffer ends before the frame does. If the buffer holds the header,
	// the header is good.
	ErrShort = errors.New("frame goes on past the end")
	// ErrBlank means that there are zeros where a frame header was expected.
	ErrBlank = errors.New("no frame: zeros")
	// ErrFrameHeader means that the bytes are not a frame header.
	ErrFrameHeader = errors.New("no frame: header does not match its check bits")
	// ErrChecksum means that a frame's header is good but its content is not.
	ErrChecksum = errors.New("frame content does not match its checksum")
)

// DecodeHeaderAt decodes only the header of the frame at the given offset of the segment. b begins
// with the frame. It returns the size, in bytes, of the whole frame. Errors: ErrShort, ErrBlank,
// ErrFrameHeader.
func DecodeHeaderAt(b []byte, seed Seed, offset int64) (f Frame, size int64, err error) {
	if len(b) < FrameHeaderSize {
		return Frame{}, 0, ErrShort
	}

	_ = b[FrameHeaderSize-1]
	f.CRC = binary.LittleEndian.Uint32(b)
	length := binary.LittleEndian.Uint32(b[4:])
	f.First = binary.LittleEndian.Uint64(b[8:])
	f.Count = binary.LittleEndian.Uint32(b[16:])
	word := binary.LittleEndian.Uint32(b[20:])
	f.Synced = binary.LittleEndian.Uint64(b[24:])
	f.Flags = Flags(word)
	if f.CRC == 0 && length == 0 && f.First == 0 && f.Count == 0 && word == 0 && f.Synced == 0 {
		return Frame{}, 0, ErrBlank
	}
	if word>>8 != seed.check(offset, length, f.Count, f.First, f.Synced, f.Flags) {
		return Frame{}, 0, ErrFrameHeader
	}

	// From here on the header is what a writer wrote. These conditions hold unless that writer was
	// wrong.
	var fits bool

	switch f.Flags {
	case 0:
		fits = f.Count > 0 && uint64(length) >= 2*uint64(f.Count)
	case FlagSeal, FlagMark:
		fits = f.Count == 0 && length == 0
	case FlagGap:
		fits = true
	}

	switch {
	case !fits,
		f.First == 0, f.First+uint64(f.Count) < f.First,
		length > maxPayload,
		int64(f.Synced) < HeaderSize, f.Synced > uint64(offset):
		return Frame{}, 0, ErrFrameHeader
	}

	return f, FrameSize(int(length)), nil
}

// NewChecksum returns the checksum of a frame's content, for a reader that does not hold the frame
// in memory: all bytes of the frame, padding included, but the first four.
func NewChecksum(seed Seed) *Checksum { return &Checksum{seed.crc} }

// Checksum is the checksum of the bytes that were written to it.
type Checksum struct{ crc uint32 }

// Write adds bytes. It never fails.
func (c *Checksum) Write(b []byte) (int, error) {
	c.crc = crc32.Update(c.crc, castagnoli, b)
	return len(b), nil
}

// Sum32 returns the checksum, which Frame.CRC must be.
func (c *Checksum) Sum32() uint32 { return c.crc }

// Decode decodes the frame at the given offset of the segment, and returns its size in bytes. b
// begins with the frame. Payload is part of b. Errors: those of DecodeHeaderAt, and ErrChecksum.
// With ErrShort and ErrChecksum, size is that of the whole frame, or 0 if b does not hold the
// header.
func Decode(b []byte, seed Seed, offset int64) (f Frame, size int64, err error) {
	f, size, err = DecodeHeaderAt(b, seed, offset)
	if err != nil {
		return Frame{}, 0, err
	}
	if int64(len(b)) < size {
		return Frame{}, size, ErrShort
	}
	if got := crc32.Update(seed.crc, castagnoli, b[4:size]); got != f.CRC {
		return Frame{}, size, fmt.Errorf("%w: got %08x, want %08x", ErrChecksum, got, f.CRC)
	}

	length := binary.LittleEndian.Uint32(b[4:])
	f.Payload = b[FrameHeaderSize : FrameHeaderSize+length : FrameHeaderSize+length]

	return f, size, nil
}
