package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	// ExtentFileSize is the size in bytes of a file that holds an Extent.
	ExtentFileSize = extentSlots * extentSlotSize
	// ExtentSize is the size in bytes of an encoded Extent.
	ExtentSize = 88

	extentSlots    = 2
	extentSlotSize = 4096 // a page, so that one damaged page leaves one slot
	extentCRC      = ExtentSize - 4
)

var extentMagic = []byte("COPPEXT\n")

// Extent is a log's own record of which segments it has. It is kept in a file of two slots. The
// slot with the lower serial is written next, so that an interrupted write leaves the other slot.
type Extent struct {
	ID         [16]byte // identity of the log
	Serial     uint64   // of this version of the extent; the highest counts
	First      uint64   // number of the oldest segment; all before it were truncated
	FirstIndex uint64   // index of that segment's first record
	Last       uint64   // number of a segment that must be there; one more, without records, may follow it
	Sealed     bool     // Seal is the seal of the segment Last
	Seal       Seal
	// Next is an index below which all records were durable. It is the index after the last record
	// of segment Last if that is sealed, else the index of the segment's first record.
	Next uint64
}

// ExtentOffset returns the offset in the file of the slot for an extent with the given serial.
func ExtentOffset(serial uint64) int64 { return int64(serial%extentSlots) * extentSlotSize }

// Append appends the ExtentSize bytes of e to dst.
func (e Extent) Append(dst []byte) []byte {
	at := len(dst)
	dst = append(dst, extentMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, Version)
	var flags uint32
	if e.Sealed {
		flags = 1
	}

	dst = binary.LittleEndian.AppendUint32(dst, flags)
	dst = append(dst, e.ID[:]...)
	for _, v := range [...]uint64{e.Serial, e.First, e.FirstIndex, e.Last, e.Next, e.Seal.Offset} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}

	dst = binary.LittleEndian.AppendUint32(dst, e.Seal.CRC)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[at:], castagnoli))
}

// AppendFile appends the content of a new file that holds e to dst.
func (e Extent) AppendFile(dst []byte) []byte {
	file := make([]byte, ExtentFileSize)
	copy(file[ExtentOffset(e.Serial):], e.Append(nil))
	return append(dst, file...)
}

// DecodeExtent decodes the file of an extent. An interrupted write may leave one slot that cannot
// be read. If neither slot can be read, the error is about both. If a slot is intact and of a newer
// format, the error is ErrVersion.
func DecodeExtent(b []byte) (Extent, error) {
	var best Extent
	var errs []error

	for slot := range extentSlots {
		part := b[min(slot*extentSlotSize, len(b)):]
		e, err := decodeExtent(part)
		if errors.Is(err, ErrVersion) {
			return Extent{}, err
		}
		if err == nil && int(ExtentOffset(e.Serial)) != slot*extentSlotSize {
			err = fmt.Errorf("extent %d is in the wrong slot", e.Serial)
		}

		if err != nil {
			errs = append(errs, fmt.Errorf("slot %d: %w", slot, err))
			continue
		}

		if e.Serial > best.Serial {
			best = e
		}
	}

	if len(errs) == extentSlots {
		return Extent{}, errors.Join(errs...)
	}

	return best, nil
}

// decodeExtent decodes one slot.
func decodeExtent(b []byte) (Extent, error) {
	if len(b) < ExtentSize {
		return Extent{}, fmt.Errorf("extent has %d bytes, want %d", len(b), ExtentSize)
	}
	if !bytes.Equal(b[:8], extentMagic) {
		return Extent{}, fmt.Errorf("extent begins with %q, want %q", b[:8], extentMagic)
	}
	want := binary.LittleEndian.Uint32(b[extentCRC:])
	if got := crc32.Checksum(b[:extentCRC], castagnoli); got != want {
		return Extent{}, fmt.Errorf("extent has checksum %08x, want %08x", got, want)
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v > Version {
		return Extent{}, fmt.Errorf("%w: %d in the extent, this program reads up to %d", ErrVersion, v, Version)
	}

	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	e := Extent{
		ID: [16]byte(b[16:32]), Serial: u64(32), First: u64(40), FirstIndex: u64(48), Last: u64(56), Next: u64(64),
		Sealed: binary.LittleEndian.Uint32(b[12:])&1 != 0,
		Seal:   Seal{Offset: u64(72), CRC: binary.LittleEndian.Uint32(b[80:])},
	}
	if e.Serial == 0 || e.First == 0 || e.FirstIndex == 0 || e.Last < e.First || e.Next < e.FirstIndex {
		return Extent{}, fmt.Errorf("extent %d goes from segment %d, record %d, to segment %d, record %d", e.Serial,
			e.First, e.FirstIndex, e.Last, e.Next)
	}

	return e, nil
}
