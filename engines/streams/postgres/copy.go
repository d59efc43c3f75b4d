package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/coppice-go/coppice/engines/streams"
)

// copier is the reader of a COPY in PostgreSQL's binary format: it takes units from a delivery
// until they are enough for a transaction. It holds one row at a time.
type copier struct {
	ctx      context.Context //nolint:containedctx // Read has none of its own
	delivery streams.Delivery
	opening  streams.Opening
	first    *streams.Event // taken from the delivery already
	part     bool           // the delivery is a part of a unit, without its End

	at     streams.Cursor // after the last whole unit
	unit   streams.Position
	inUnit bool
	skips  bool // whether the sink has the unit

	place  streams.Place // of the newest event
	places []shortPlace  // of each row
	ends   []unitEnd
	bytes  int

	started bool
	done    bool
	err     error // of the delivery, or of its order

	buf     []byte // what Read hands out next
	payload []byte // then this
	after   []byte // and this
	scratch []byte
}

// unitEnd is the row of a unit.
type unitEnd struct {
	cursor           streams.Cursor
	index, delivered uint64
}

// shortPlace is a place without its chain, of which a transaction has one.
type shortPlace struct{ period, height, index uint64 }

func (p shortPlace) place(chainID string) streams.Place {
	return streams.Place{ChainID: chainID, Position: streams.Position{Period: p.period, Height: p.height},
		Index: p.index}
}

// chunk is about how many bytes go to the server at once.
const chunk = 64 << 10

// Read implements io.Reader.
func (c *copier) Read(p []byte) (int, error) {
	for len(c.buf) == 0 {
		switch {
		case len(c.payload) > 0:
			c.buf, c.payload = c.payload, nil
		case len(c.after) > 0:
			c.buf, c.after = c.after, nil
		case c.done:
			return 0, io.EOF
		default:
			if c.err = c.fill(); c.err != nil {
				return 0, c.err
			}
		}
	}

	n := copy(p, c.buf)
	c.buf = c.buf[n:]

	return n, nil
}

// signature begins a COPY in binary format: no flags, no extension.
const signature = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// fill encodes rows until there is a chunk of them, or the transaction has enough.
func (c *copier) fill() error {
	c.scratch = c.scratch[:0]
	if !c.started {
		c.started = true
		c.scratch = append(c.scratch, signature...)
	}

	for len(c.scratch) < chunk && len(c.payload) == 0 && !c.done {
		e, err := c.next()
		if errors.Is(err, io.EOF) && (c.part || !c.inUnit) {
			c.finish()
			break
		}
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("the delivery ends inside height %s", c.unit)
		}
		if err != nil {
			return err
		}
		if err := c.take(e); err != nil {
			return err
		}
	}
	c.buf = c.scratch

	return nil
}

// finish ends the copy.
func (c *copier) finish() {
	c.done = true
	c.scratch = binary.BigEndian.AppendUint16(c.scratch, 0xffff)
}

func (c *copier) next() (streams.Event, error) {
	if c.first != nil {
		e := *c.first
		c.first = nil
		return e, nil
	}
	return c.delivery.Next(c.ctx)
}

// take encodes one event, unless the sink has its unit.
func (c *copier) take(e streams.Event) error {
	if !c.inUnit {
		c.inUnit, c.unit = true, e.Position
		c.skips = !c.at.Empty() && e.Position.Compare(c.at.Position) <= 0
	}
	c.place = e.Place

	if end, ok := e.Body.(*streams.End); ok {
		c.inUnit = false
		if !c.skips {
			if err := c.end(e, end); err != nil {
				return err
			}
		}
		c.delivery.Credit(e.Size())
		if len(c.places)+len(c.ends) >= maxRows || c.bytes >= maxBytes {
			c.finish()
		}

		return nil
	}

	if !c.skips {
		c.row(e)
	}
	c.delivery.Credit(e.Size())

	return nil
}

// end closes a unit, which must rest on the one before.
func (c *copier) end(e streams.Event, end *streams.End) error {
	switch {
	case end.After == nil && !c.at.Empty():
		return streams.Fail(streams.BadOrder, fmt.Errorf("height %s is the first of its delivery, and the sink is "+
			"at %s", e.Position, c.at))
	case end.After != nil && (c.at.Empty() || *end.After != c.at.Position):
		return streams.Fail(streams.BadOrder, fmt.Errorf("height %s rests on height %s, and the sink is at %s",
			e.Position, *end.After, c.at))
	}

	epoch, beat := c.at.Epoch, c.at.Beat
	c.at = c.opening.Cursor(e)
	c.at.Epoch, c.at.Beat = epoch, beat
	kept := c.at // the memory of the event is gone with the next one
	kept.BlockHash, kept.AppHash = orEmpty(clone(kept.BlockHash)), orEmpty(clone(kept.AppHash))
	kept.Digest = orEmpty(clone(kept.Digest))
	c.at = kept
	c.ends = append(c.ends, unitEnd{cursor: kept, index: e.Index, delivered: end.Delivered})

	return nil
}

func clone(b []byte) []byte { return append([]byte(nil), b...) }

// row encodes the row of an event.
func (c *copier) row(e streams.Event) {
	r := newRow(e)
	c.places = append(c.places, shortPlace{e.Period, e.Height, e.Index})
	c.bytes += e.Size()

	b := binary.BigEndian.AppendUint16(c.scratch, 10)
	b = appendInt64(b, e.Period)
	b = appendInt64(b, e.Height)
	b = appendInt64(b, e.Index)
	b = appendInt32(b, e.Part.Number)
	b = appendField(b, []byte(e.Body.Kind()))
	if r.hasTx {
		b = appendInt32(b, r.tx)
	} else {
		b = appendNull(b)
	}
	b = appendBytes(b, r.key)

	if len(r.value) < chunk {
		c.scratch = appendJSONB(appendJSONB(appendBytes(b, r.value), r.decoded), r.body)
		return
	}

	// A large value is handed out where it lies. It stays valid until the next event is taken,
	// which Read does not do before it has handed it out.
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.value)))
	c.scratch, c.payload, c.after = b, r.value, appendJSONB(appendJSONB(nil, r.decoded), r.body)
}

const null = 0xffffffff // the length of a NULL

func appendNull(b []byte) []byte { return binary.BigEndian.AppendUint32(b, null) }

func appendInt64(b []byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, 8), n)
}

func appendInt32(b []byte, n uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, 4), n)
}

func appendField(b, v []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
}

// appendBytes appends a bytea; nil is NULL.
func appendBytes(b, v []byte) []byte {
	if v == nil {
		return appendNull(b)
	}
	return appendField(b, v)
}

// appendJSONB appends a jsonb in its version 1; nil is NULL.
func appendJSONB(b, v []byte) []byte {
	if v == nil {
		return appendNull(b)
	}
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(v)+1)), 1)
	return append(b, v...)
}
