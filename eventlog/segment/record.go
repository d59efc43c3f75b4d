package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// RecordSize returns the size, in bytes, of a record with this much data in a frame.
func RecordSize(data int) int64 {
	n := int64(2)
	for v := uint64(data); v >= 0x80; v >>= 7 {
		n++
	}
	return n + int64(data)
}

// AppendRecord appends a record to dst: the length of its data, its kind, its data.
func AppendRecord(dst []byte, kind uint8, data []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(data)))
	dst = append(dst, kind)
	return append(dst, data...)
}

var errRecord = errors.New("record does not fit its frame")

// NextRecord splits the first record off a payload. data and rest are parts of payload.
func NextRecord(payload []byte) (kind uint8, data, rest []byte, err error) {
	if len(payload) == 0 {
		return 0, nil, nil, errRecord
	}

	n, w := uint64(payload[0]), 1
	if n >= 0x80 {
		if n, w = binary.Uvarint(payload); w <= 0 {
			return 0, nil, nil, errRecord
		}
	}

	if uint64(len(payload)-w) <= n { // the kind is one byte more
		return 0, nil, nil, errRecord
	}

	at, end := w+1, w+1+int(n)
	return payload[w], payload[at:end:end], payload[end:], nil
}

// CheckRecords returns an error unless a frame's payload is exactly its count of records. A correct
// writer makes no other frame, but a checksum does not prove which writer made it.
func CheckRecords(f Frame) error {
	if f.Flags == FlagGap {
		return nil
	}

	p := f.Payload

	for i := range f.Count {
		var err error
		if _, _, p, err = NextRecord(p); err != nil {
			return fmt.Errorf("record %d: %w", f.First+uint64(i), err)
		}
	}

	if len(p) != 0 {
		return fmt.Errorf("frame of %d records has %d bytes left over", f.Count, len(p))
	}

	return nil
}
