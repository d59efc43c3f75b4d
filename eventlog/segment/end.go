package segment

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// EndSize is the size in bytes of an End.
const EndSize = 64

var endMagic = []byte("COPPEND\n")

// End says that a log reached at least as far as the seal of one segment. It is kept in a file of its own and stays true for ever, so it
// may be older than the log's end; it finds a newest segment that lost its end, or is gone.
type End struct {
	ID     [16]byte // identity of the log
	Number uint64   // of the segment
	Seal   Seal     // of that segment
	Next   uint64   // index after its last record
}

// Append appends the EndSize bytes of e to dst.
func (e End) Append(dst []byte) []byte {
	at := len(dst)
	dst = append(dst, endMagic...)
	dst = append(dst, e.ID[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, e.Number)
	dst = binary.LittleEndian.AppendUint64(dst, e.Seal.Offset)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(e.Seal.CRC))
	dst = binary.LittleEndian.AppendUint64(dst, e.Next)
	dst = binary.LittleEndian.AppendUint32(dst, Version)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[at:], castagnoli))
}

// DecodeEnd reads what Append made.
func DecodeEnd(b []byte) (End, error) {
	if len(b) != EndSize {
		return End{}, fmt.Errorf("end mark has %d bytes, want %d", len(b), EndSize)
	}
	if !bytes.Equal(b[:8], endMagic) {
		return End{}, fmt.Errorf("end mark begins with %q, want %q", b[:8], endMagic)
	}
	want := binary.LittleEndian.Uint32(b[60:])
	if got := crc32.Checksum(b[:60], castagnoli); got != want {
		return End{}, fmt.Errorf("end mark has checksum %08x, want %08x", got, want)
	}
	if v := binary.LittleEndian.Uint32(b[56:]); v > Version {
		return End{}, fmt.Errorf("%w: %d in the end mark, this program reads up to %d", ErrVersion, v, Version)
	}
	return End{
		ID:     [16]byte(b[8:24]),
		Number: binary.LittleEndian.Uint64(b[24:]),
		Seal:   Seal{Offset: binary.LittleEndian.Uint64(b[32:]), CRC: uint32(binary.LittleEndian.Uint64(b[40:]))},
		Next:   binary.LittleEndian.Uint64(b[48:]),
	}, nil
}
