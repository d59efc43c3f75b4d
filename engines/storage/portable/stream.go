package portable

import (
	"encoding/binary"
	"fmt"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// preamble begins every stream, so that no stream is empty: CometBFT treats an empty chunk as a
// missing one.
const preamble = "coppice state\n"

func appendKey(b []byte, e storage.Entry) []byte {
	b = append(binary.AppendUvarint(b, uint64(len(e.Key))), e.Key...)
	return append(binary.AppendUvarint(b, uint64(len(e.Value))), e.Value...)
}

func appendID(b []byte, r *logv1.TxResult) []byte {
	b = chain.VersionFromProto(r.Version).AppendBinary(append(b, r.Id...))
	b = binary.AppendVarint(binary.AppendUvarint(b, uint64(uint32(r.Code))), r.ValidUntilMs)
	return append(binary.AppendUvarint(b, uint64(len(r.Data))), r.Data...)
}

// sink receives the records of a stream. storage.Builder implements it.
type sink interface {
	Key(key, value []byte) error
	ID(r *logv1.TxResult) error
}

// decoder decodes a stream as it arrives. It never holds back more than one record and one chunk.
type decoder struct {
	to        sink
	begun     bool   // the preamble was read
	keys, ids uint64 // still to come
	rest      []byte // the beginning of a record
}

// feed decodes the next bytes of the stream. An ErrSnapshot says where the stream is malformed; any
// other error is the sink's.
func (d *decoder) feed(p []byte) error {
	if len(d.rest) > 0 {
		p = append(d.rest, p...)
	}

	for len(p) > 0 {
		n, err := d.record(p)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		p = p[n:]
	}

	d.rest = append(d.rest[:0], p...)
	return nil
}

// end returns nil if the stream may end here, and ErrSnapshot if something is missing or left over.
func (d *decoder) end() error {
	if !d.begun || len(d.rest) > 0 || d.keys > 0 || d.ids > 0 {
		return fmt.Errorf("%w: stream ends with %d keys and %d ids missing, and %d bytes left over",
			ErrSnapshot, d.keys, d.ids, len(d.rest))
	}
	return nil
}

// record decodes the first record of p and returns its length, or 0 if p does not hold all of it
// yet.
func (d *decoder) record(p []byte) (n int, err error) {
	c := cursor{p: p}
	switch {
	case !d.begun:
		if head := c.fixed(len(preamble)); !c.short && string(head) != preamble {
			return 0, fmt.Errorf("%w: stream does not begin with %q", ErrSnapshot, preamble)
		}
		d.begun = !c.short
		return c.n, nil

	case d.keys > 0:
		key, value := c.bytes(chain.MaxKeyBytes), c.bytes(chain.MaxValueBytes)
		if c.bad != nil || c.short {
			return 0, c.bad
		}
		d.keys--
		return c.n, d.to.Key(key, value)

	case d.ids > 0:
		id, version := c.fixed(len(chain.TxID{})), c.fixed(chain.VersionSize)
		code, until, data := c.uvarint(), c.varint(), c.bytes(chain.MaxValueBytes)
		if c.bad != nil || c.short {
			return 0, c.bad
		}
		v, err := chain.DecodeVersion(version)
		if err == nil && code > 1<<31-1 {
			err = fmt.Errorf("code %d", code)
		}
		if err != nil {
			return 0, fmt.Errorf("%w: the result of %x: %w", ErrSnapshot, id, err)
		}

		d.ids--
		return c.n, d.to.ID(&logv1.TxResult{Id: clone(id), Version: v.Proto(), Code: logv1.Code(code),
			ValidUntilMs: until, Data: clone(data)})
	}

	return 0, fmt.Errorf("%w: stream goes on after its last record", ErrSnapshot)
}

func clone(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return append([]byte(nil), b...)
}

// cursor reads the fields of a record that may be incomplete. It sets short if the record is, and
// bad if a field is malformed.
type cursor struct {
	p     []byte
	n     int
	short bool
	bad   error
}

func (c *cursor) fixed(n int) []byte {
	if c.short || c.bad != nil {
		return nil
	}

	if len(c.p)-c.n < n {
		c.short = true
		return nil
	}

	c.n += n
	return c.p[c.n-n : c.n]
}

func (c *cursor) number(read func([]byte) int) {
	if c.short || c.bad != nil {
		return
	}
	switch n := read(c.p[c.n:]); {
	case n > 0:
		c.n += n
	case n == 0:
		c.short = true
	default:
		c.bad = fmt.Errorf("%w: stream has a number of more than 64 bits", ErrSnapshot)
	}
}

func (c *cursor) uvarint() (v uint64) {
	c.number(func(b []byte) (n int) { v, n = binary.Uvarint(b); return n })
	return v
}

func (c *cursor) varint() (v int64) {
	c.number(func(b []byte) (n int) { v, n = binary.Varint(b); return n })
	return v
}

func (c *cursor) bytes(most int) []byte {
	n := c.uvarint()
	if c.bad == nil && !c.short && n > uint64(most) {
		c.bad = fmt.Errorf("%w: stream has a field of %d bytes, want at most %d", ErrSnapshot, n, most)
	}
	return c.fixed(int(min(n, uint64(most))))
}
