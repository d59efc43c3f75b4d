package streams

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
)

// section is the data of a record: read in place, never held as a whole.
type section interface {
	io.ReaderAt
	Size() int64
}

// errWire means that a record is not the protobuf message that its kind says.
var errWire = errors.New("record is not what its kind says")

const (
	windowSize = 32 << 10 // of a walk
	largeField = 1 << 20  // a buffer for a larger field is not kept
)

// walk goes through the fields of a message in a section, in order, with a small buffer.
type walk struct {
	r       io.ReaderAt
	at, end int64

	win []byte // what the section holds at off
	off int64
	big []byte // a field that is longer than the window
}

// field is one field of a message: a number (varint and fixed types) or a range of bytes.
type field struct {
	num   protowire.Number
	value uint64
	at    int64 // of the content
	size  int64 // of the content; -1: the field is a number
}

func newWalk(r io.ReaderAt, at, end int64) *walk { return &walk{r: r, at: at, end: end} }

// peek returns at least n bytes at the walk's place, or all that are left.
func (w *walk) peek(n int64) ([]byte, error) {
	n = min(n, w.end-w.at)
	if have := w.off + int64(len(w.win)); w.at >= w.off && w.at+n <= have {
		return w.win[w.at-w.off:], nil
	}

	want := min(max(n, windowSize), w.end-w.at)
	if int64(cap(w.win)) < want {
		w.win = make([]byte, want)
	}
	w.win, w.off = w.win[:want], w.at
	if _, err := w.r.ReadAt(w.win, w.at); err != nil && err != io.EOF {
		return nil, err
	}

	return w.win, nil
}

// next returns the next field; ok is false at the end of the message.
func (w *walk) next() (f field, ok bool, err error) {
	if w.at >= w.end {
		return field{}, false, nil
	}
	b, err := w.peek(2 * 10)
	if err != nil {
		return field{}, false, err
	}

	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 {
		return field{}, false, fmt.Errorf("%w: at byte %d", errWire, w.at)
	}
	f = field{num: num, size: -1}
	b = b[n:]
	at := w.at + int64(n)

	switch typ {
	case protowire.VarintType:
		f.value, n = protowire.ConsumeVarint(b)
	case protowire.Fixed64Type:
		f.value, n = protowire.ConsumeFixed64(b)
	case protowire.Fixed32Type:
		var v uint32
		v, n = protowire.ConsumeFixed32(b)
		f.value = uint64(v)
	case protowire.BytesType:
		var size uint64
		size, n = protowire.ConsumeVarint(b)
		if n > 0 && size <= uint64(w.end-at-int64(n)) {
			f.at, f.size = at+int64(n), int64(size)
		} else {
			n = -1
		}
	default:
		n = -1
	}
	if n < 0 {
		return field{}, false, fmt.Errorf("%w: at byte %d", errWire, at)
	}

	w.at = at + int64(n) + max(f.size, 0)

	return f, true, nil
}

// content returns the bytes of a field that next has returned. They are valid until the next call
// of next or content.
func (w *walk) content(f field) ([]byte, error) {
	if have := w.off + int64(len(w.win)); f.at >= w.off && f.at+f.size <= have {
		return w.win[f.at-w.off:][:f.size:f.size], nil
	}
	if f.size <= windowSize {
		at := w.at
		w.at = f.at
		b, err := w.peek(f.size)
		w.at = at
		if err != nil {
			return nil, err
		}
		return b[:f.size:f.size], nil
	}

	if int64(cap(w.big)) < f.size || cap(w.big) > largeField {
		w.big = make([]byte, f.size)
	}
	w.big = w.big[:f.size]
	if _, err := w.r.ReadAt(w.big, f.at); err != nil && err != io.EOF {
		return nil, err
	}

	return w.big, nil
}

// find moves to the next field with a number.
func (w *walk) find(num protowire.Number) (f field, ok bool, err error) {
	for {
		f, ok, err = w.next()
		if err != nil || !ok || f.num == num {
			return f, ok, err
		}
	}
}

// eachField calls f for each field of a small message in memory.
func eachField(b []byte, f func(num protowire.Number, value uint64, content []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errWire
		}
		b = b[n:]

		var value uint64
		var content []byte
		switch typ {
		case protowire.VarintType:
			value, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			content, n = protowire.ConsumeBytes(b)
		case protowire.Fixed64Type:
			value, n = protowire.ConsumeFixed64(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return errWire
		}
		b = b[n:]

		if err := f(num, value, content); err != nil {
			return err
		}
	}
	return nil
}
