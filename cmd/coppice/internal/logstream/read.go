package logstream

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// ErrFormat is wrapped by every error that reports an invalid export. Errors of the underlying
// reader do not wrap it.
var ErrFormat = errors.New("not a complete export of a log")

const (
	// MaxRecord bounds a record in bytes. It is the highest bound that a log may have.
	MaxRecord = 1 << 30
	// MaxMessage bounds one message in bytes: a record and what surrounds it.
	MaxMessage = MaxRecord + 1<<20
	maxLine    = MaxMessage/3*4 + 1<<10 // in base64
)

// Reader reads an export of either format and checks its order, its continuity and its end. It is
// for one goroutine.
type Reader struct {
	Begin *logv1.ExportBegin

	in      *bufio.Reader
	json    bool
	count   int    // messages read
	next    uint64 // index of the next record, or its lower bound if Filtered
	records uint64
	digest  digest
	ended   bool
	buf     bytes.Buffer
}

// NewReader reads the beginning of an export.
func NewReader(r io.Reader) (*Reader, error) {
	x := &Reader{in: bufio.NewReaderSize(r, 128<<10), digest: newDigest()}
	head, err := x.in.Peek(2)
	if err != nil && err != io.EOF {
		return nil, err
	}

	// A binary export begins with '{' if its begin has 123 bytes; then 0x0a, its tag, follows.
	x.json = len(head) > 0 && head[0] == '{' && (len(head) == 1 || head[1] != 0x0a)
	m, err := x.message()
	if err != nil {
		return nil, err
	}

	x.Begin = m.GetBegin()
	switch b := x.Begin; {
	case b == nil:
		return nil, x.bad("it does not start with a begin message")
	case b.Version == 0 || b.Version > Version:
		return nil, x.bad("it has version %d, this program reads version %d", b.Version, Version)
	case len(b.LogId) != 16:
		return nil, x.bad("the log's identity has %d bytes, want 16", len(b.LogId))
	case b.First == 0 || b.Last+1 < b.First:
		return nil, x.bad("it claims records %d to %d", b.First, b.Last)
	}

	x.next = x.Begin.First

	return x, nil
}

// Filtered reports whether the export holds only records of some kinds. No log can be made from
// such an export.
func (x *Reader) Filtered() bool { return len(x.Begin.Kinds) > 0 }

// bad returns an error that wraps ErrFormat and names the current message.
func (x *Reader) bad(format string, args ...any) error {
	return fmt.Errorf("%w: message %d: %s", ErrFormat, x.count, fmt.Sprintf(format, args...))
}

// Next returns the next record, or nil and the next gap. It returns io.EOF when the whole export
// was read and is valid.
func (x *Reader) Next() (*logv1.ExportRecord, *logv1.ExportGap, error) {
	if x.ended {
		return nil, nil, io.EOF
	}
	m, err := x.message()
	if err != nil {
		return nil, nil, err
	}

	switch p := m.Part.(type) {
	case *logv1.Export_Record:
		r := p.Record
		if r.GetKind() > 255 {
			return nil, nil, x.bad("record %d has kind %d, want 0 to 255", r.GetIndex(), r.GetKind())
		}
		if err := x.at("record", r.GetIndex(), 1); err != nil {
			return nil, nil, err
		}

		x.records++
		x.digest.record(r)

		return r, nil, nil

	case *logv1.Export_Gap:
		if err := x.at("gap", p.Gap.GetFirst(), p.Gap.GetCount()); err != nil {
			return nil, nil, err
		}
		x.digest.gap(p.Gap)
		return nil, p.Gap, nil

	case *logv1.Export_End:
		return nil, nil, x.end(p.End)
	}

	return nil, nil, x.bad("neither a record nor the end")
}

// at checks that a record or gap begins at the next index, and does not go past the announced end.
func (x *Reader) at(what string, first, count uint64) error {
	if first < x.next || first > x.next && !x.Filtered() {
		return x.bad("%s %d, want %d", what, first, x.next)
	}
	if first > x.Begin.Last+1 || count > x.Begin.Last+1-first {
		return x.bad("%s %d goes past record %d, the last that was announced", what, first, x.Begin.Last)
	}
	x.next = first + count
	return nil
}

// end checks the message that ends the export. It returns io.EOF if the whole export is valid.
func (x *Reader) end(e *logv1.ExportEnd) error {
	switch {
	case e.GetRecords() != x.records:
		return x.bad("the end says %d records, there were %d", e.GetRecords(), x.records)
	case !bytes.Equal(e.GetDigest(), x.digest.sum()):
		return x.bad("the digest is %x, want %x", x.digest.sum(), e.GetDigest())
	case !x.Filtered() && x.next != x.Begin.Last+1:
		return x.bad("it ends before record %d, the last that was announced is %d", x.next, x.Begin.Last)
	}

	if _, err := x.in.ReadByte(); err == nil {
		return x.bad("something follows the end")
	} else if err != io.EOF {
		return err
	}

	x.ended = true
	return io.EOF
}

// message reads the next message. The size in front of a binary message may be wrong, so message
// takes no memory for it before it has read that many bytes.
func (x *Reader) message() (*logv1.Export, error) {
	x.count++
	m := new(logv1.Export)

	if x.json {
		line, err := x.line()
		if err != nil {
			return nil, err
		}
		if err := protojson.Unmarshal(line, m); err != nil {
			return nil, x.bad("%v", err)
		}
		return m, nil
	}

	size, err := binary.ReadUvarint(x.in)
	switch {
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return nil, x.bad("it ends here, without an end message")
	case err != nil && err.Error() == "binary: varint overflows a 64-bit integer":
		return nil, x.bad("no length")
	case err != nil:
		return nil, err
	case size > MaxMessage:
		return nil, x.bad("it has %d bytes, at most %d", size, MaxMessage)
	}

	x.buf.Reset()

	if n, err := io.CopyN(&x.buf, x.in, int64(size)); err == io.EOF {
		return nil, x.bad("it ends after %d of %d bytes", n, size)
	} else if err != nil {
		return nil, err
	}

	if err := proto.Unmarshal(x.buf.Bytes(), m); err != nil {
		return nil, x.bad("%v", err)
	}

	return m, nil
}

// line reads a line.
func (x *Reader) line() ([]byte, error) {
	x.buf.Reset()
	for {
		part, err := x.in.ReadSlice('\n')
		x.buf.Write(part)

		switch {
		case err == nil:
			return x.buf.Bytes(), nil
		case err == io.EOF:
			return nil, x.bad("it ends here, without an end message")
		case err != bufio.ErrBufferFull:
			return nil, err
		case x.buf.Len() > maxLine:
			return nil, x.bad("a line has more than %d bytes", maxLine)
		}
	}
}
