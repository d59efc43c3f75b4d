package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

const (
	// FrameHeaderSize is the size in bytes of what precedes a frame's records.
	FrameHeaderSize = 32
	// Align is what frame offsets and sizes are multiples of, in bytes.
	Align = 8
	// maxPayload bounds a frame's records in bytes.
	maxPayload = math.MaxUint32 - 64
)

// Flags tell what a frame is besides a holder of records.
type Flags uint8

const (
	// FlagSeal marks the last frame of a segment. It holds no records.
	FlagSeal Flags = 1 << 0
	// FlagMark marks a frame without records that only says, by its Synced, what is durable before
	// it.
	FlagMark Flags = 1 << 1

	// FlagGap marks a frame in place of records that were lost before this log was made. Its count
	// says how many; 0 means that nobody knows. Its payload is the reason, as text.
	FlagGap Flags = 1 << 2
)

// Frame is a decoded frame.
type Frame struct {
	First   uint64 // index of the first record; of the next one, if there are no records
	Count   uint32 // records, or those lost
	Flags   Flags
	Synced  uint64 // offset in the segment up to which all was durable before this frame was written
	CRC     uint32
	Payload []byte // the records, or the reason for a gap, without padding; part of the buffer decoded from
}

// Next is the index that the frame after this one begins at.
func (f Frame) Next() uint64 { return f.First + uint64(f.Count) }

// FrameSize is the size in bytes of a frame with so many bytes of records.
func FrameSize(payload int) int64 {
	return FrameHeaderSize + (int64(payload)+Align-1)&^(Align-1)
}

// Finish makes a frame of b, whose first FrameHeaderSize bytes are free and whose rest is records
// as AppendRecord makes them, for the given offset of the segment. It returns b with padding.
// f.Payload and f.CRC are not used.
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

// Why a frame cannot be read.
var (
	// ErrShort means that the buffer ends before the frame does. Its header is good, if there is
	// one.
	ErrShort = errors.New("frame goes on past the end")
	// ErrBlank means that there are zeros where a frame header was expected.
	ErrBlank = errors.New("no frame: zeros")
	// ErrFrameHeader means that what was expected to be a frame header is something else.
	ErrFrameHeader = errors.New("no frame: header does not check")
	// ErrChecksum means that a frame's header is good and its content is not.
	ErrChecksum = errors.New("frame content does not match its checksum")
)

// DecodeHeaderAt reads only the header of the frame at the given offset of the segment, from the
// beginning of b, and returns the size in bytes that the whole frame has. Errors: ErrShort,
// ErrBlank, ErrFrameHeader.
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

	// From here on the header is what a writer wrote; these hold unless that writer was wrong.
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

// Decode reads the frame at the given offset of the segment from the beginning of b, and returns
// its size in bytes. Payload is part of b. Errors: those of DecodeHeaderAt, and ErrChecksum. With
// ErrShort and ErrChecksum, size is that of the whole frame, or 0 if not even the header is there.
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
