package streams

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/coppice-go/coppice/engines/streams/codec"
)

// options are what the definition of a slot makes of events.
type options struct {
	def     Definition
	filter  Filter
	codecs  codec.List
	request RequestDecoder
	limit   int // of a payload

	previous *previous // nil: values before changes are not delivered

	// parked are the events that were put aside; a marker stands in the place of each.
	parked func(Place) (Rejected, bool)

	// mark belongs into the first unit after a change of the definition; nil: there was none.
	mark *redefinition
}

// rawUnit is a unit before filter, codecs and parts.
type rawUnit interface {
	next() (filtered, error) // io.EOF after the End
	restart()
}

// listUnit is a unit whose events are in memory.
type listUnit struct {
	events []Event
	at     int
}

func (l *listUnit) restart() { l.at = 0 }

func (l *listUnit) next() (filtered, error) {
	if l.at == len(l.events) {
		return filtered{}, io.EOF
	}
	l.at++
	return filtered{Event: l.events[l.at-1]}, nil
}

// newListUnit returns the unit of these bodies, with its End.
func newListUnit(at Place, end *End, bodies ...Body) *listUnit {
	l := &listUnit{}
	for _, b := range append(bodies, end) {
		l.events = append(l.events, Event{Place: at, Body: b})
		at.Index++
	}
	end.Events = at.Index
	return l
}

// unit is a unit of the log as one slot delivers it.
type unit struct {
	cursor Cursor // after the unit; its digest is set when the End was returned
	index  uint64 // of the record on which the unit rests
	starts bool   // it begins a chain or a period
	empty  bool   // the filter leaves nothing but the End
	events uint64 // with empty: of the unit

	raw    rawUnit
	close  func() // releases the records
	o      *options
	after  *Position
	digest Digester

	mark *Redefined // to deliver before the End; nil: none
	last *Event     // the End, while the mark is delivered

	rest      io.ReaderAt // of the split event under way; nil: none
	restAt    int64
	restSize  int64
	split     Event
	delivered uint64
	buf       []byte
	plain     bool // without a digest
}

// begin looks whether the filter leaves anything, and starts with the first event. after is the
// sink's unit before this one.
func (u *unit) begin(after *Position) error {
	u.after, u.empty = after, false
	if len(u.o.filter) > 0 {
		if err := u.seek(); err != nil {
			return err
		}
	}

	u.raw.restart()
	u.mark, u.last = nil, nil
	if !u.empty && u.o.mark.marks(u.cursor.Position) {
		u.mark = &Redefined{From: u.o.mark.From, To: u.o.mark.To}
	}
	u.digest.Begin(u.cursor.ChainID, u.cursor.Position)
	u.rest, u.delivered = nil, 0

	return nil
}

// place returns a unit that holds only the End of u, of which the filter leaves nothing.
func (u *unit) place() *unit {
	at := Place{ChainID: u.cursor.ChainID, Position: u.cursor.Position, Index: u.events - 1}
	o := *u.o
	o.filter = nil
	return &unit{cursor: u.cursor, index: u.index, o: &o, close: func() {},
		raw: newListUnit(at, &End{BlockHash: u.cursor.BlockHash, AppHash: u.cursor.AppHash})}
}

// seek sets u.empty unless an event matches the filter.
func (u *unit) seek() error {
	u.raw.restart()
	for {
		e, err := u.raw.next()
		if err == io.EOF {
			u.empty = true
			return nil
		}
		if err != nil {
			return err
		}

		switch e.Body.Kind() {
		case KindReset, KindStarted, KindGap, KindRedefined:
			return nil
		case KindEnd: // every unit has one
			u.events = e.Index + 1
			continue
		}
		if u.o.filter.match(e) {
			return nil
		}
	}
}

// next returns the next event that the slot delivers, and io.EOF after the End.
func (u *unit) next() (Event, error) {
	if u.rest != nil {
		return u.part()
	}

	if e := u.last; e != nil {
		u.last = nil
		return u.end(*e, e.Body.(*End))
	}

	for {
		e, err := u.raw.next()
		if err != nil {
			return Event{}, err
		}
		end, ends := e.Body.(*End)
		if ends && u.mark != nil {
			return u.redefined(e.Event, *end)
		}
		switch {
		case ends:
			return u.end(e.Event, end)
		case u.empty, !structural(e.Body) && !u.o.filter.match(e):
			continue
		}

		return u.deliver(e.Event)
	}
}

// redefined returns the mark, in the place of the End, which comes next.
func (u *unit) redefined(e Event, end End) (Event, error) {
	mark := Event{Place: e.Place, Body: u.mark}
	end.Events++
	e.Index++
	e.Body = &end
	u.mark, u.last = nil, &e
	u.delivered++
	return mark, u.digest.Add(mark)
}

func (u *unit) end(e Event, end *End) (Event, error) {
	sum, err := u.digest.Sum()
	if err != nil {
		return Event{}, err
	}
	end.Delivered, end.Digest, end.After = u.delivered, sum, u.after
	u.cursor.Digest, u.cursor.Events = sum, end.Events
	return e, nil
}

// deliver applies codecs and limits to an event that passes.
func (u *unit) deliver(e Event) (Event, error) {
	if marker, ok := u.o.parked(e.Place); ok {
		marker.Was, marker.Key = e.Body.Kind(), e.Key()
		e.Body = &marker
	}

	if err := u.decode(e); err != nil {
		return Event{}, err
	}

	if c, ok := e.Body.(*Change); ok {
		c.fit(u.o.limit)
	}

	u.delivered++
	payload := e.Payload()
	if b, ok := u.raw.(*blockEvents); ok && b.large.size > 0 && e.Body == Body(&b.txBody) {
		return u.splits(e, b.decided, b.large.at, b.large.size)
	}
	if len(payload) > u.o.limit {
		return u.splits(e, readerAt(payload), 0, int64(len(payload)))
	}

	return e, u.add(e)
}

// add adds an event to the digest.
func (u *unit) add(e Event) error {
	if u.plain {
		return nil
	}
	return u.digest.Add(e)
}

// decode sets what the codec of an event's key makes of its value.
func (u *unit) decode(e Event) error {
	var value []byte
	var to *[]byte
	switch b := e.Body.(type) {
	case *Change:
		if b.Delete {
			return nil
		}
		value, to = b.Value, &b.Decoded
	case *Key:
		value, to = b.Value, &b.Decoded
	default:
		return nil
	}

	decoded, err := u.o.codecs.Decode(e.Key(), value)
	if err != nil {
		return Reject(e.Place, fmt.Errorf("the codec of key %.80q: %w", e.Key(), err))
	}
	if len(value) <= u.o.limit {
		*to = decoded
	}

	return nil
}

// splits begins to deliver an event in parts.
func (u *unit) splits(e Event, r io.ReaderAt, at, size int64) (Event, error) {
	h := sha256.New()
	content := io.NewSectionReader(r, at, size)
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, content, make([]byte, 32<<10)); err != nil {
		return Event{}, err
	}

	limit := int64(u.o.limit)
	e.Part = Part{Of: uint32((size + limit - 1) / limit), Size: uint64(size), SHA256: [sha256.Size]byte(h.Sum(nil))}
	u.split, u.rest, u.restAt, u.restSize = e, r, at, size

	return u.part()
}

// part returns the next part of the split event.
func (u *unit) part() (Event, error) {
	n := min(int64(u.o.limit), u.restSize)
	if int64(cap(u.buf)) < n {
		u.buf = make([]byte, n)
	}
	u.buf = u.buf[:n]
	if _, err := u.rest.ReadAt(u.buf, u.restAt); err != nil && err != io.EOF {
		return Event{}, err
	}

	u.split.Part.Number++
	*u.split.Body.payload() = u.buf
	e := u.split
	if u.restAt, u.restSize = u.restAt+n, u.restSize-n; u.restSize == 0 {
		u.rest = nil
	}

	return e, u.add(e)
}

// readerAt reads bytes in memory.
type readerAt []byte

func (b readerAt) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (b readerAt) Size() int64 { return int64(len(b)) }

// Split passes an event to f: whole, or in parts of at most limit bytes of payload.
func Split(e Event, limit int, f func(Event) error) error {
	payload := e.Payload()
	if len(payload) <= limit {
		return f(e)
	}

	field := e.Body.payload()
	defer func() { *field = payload }()

	part := Part{Of: uint32((len(payload) + limit - 1) / limit), Size: uint64(len(payload)),
		SHA256: sha256.Sum256(payload)}
	for rest := payload; len(rest) > 0; {
		n := min(limit, len(rest))
		part.Number++
		e.Part, *field = part, rest[:n]
		rest = rest[n:]
		if err := f(e); err != nil {
			return err
		}
	}

	return nil
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }
