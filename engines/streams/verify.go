package streams

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Fault is what Verify names.
type Fault string

// The faults of a sink's content.
const (
	FaultLost    Fault = "lost"    // an event is missing
	FaultDoubled Fault = "doubled" // an event is there twice
	FaultChanged Fault = "changed" // an event has another content
	FaultSwapped Fault = "swapped" // an event stands in the place of another
	FaultForeign Fault = "foreign" // the log has no such event
	FaultDigest  Fault = "digest"  // what a unit stores is not what its digest says
	FaultDamaged Fault = "damaged" // the sink holds something that is no event
)

// ErrDamaged is what Sink.Read returns, after it has passed all events on, if the sink holds
// something else that belongs to no event.
var ErrDamaged = errors.New("the sink is damaged")

// StraySink is a Sink whose system can hold events where it has no unit. Read does not reach them.
type StraySink interface {
	// Strays returns the places of the first such events.
	Strays(ctx context.Context) ([]Place, error)
}

// Finding is one fault, with the place of the event.
type Finding struct {
	Fault Fault  `json:"fault"`
	Place Place  `json:"place"`
	Part  uint32 `json:"part,omitempty"`
	Text  string `json:"text,omitempty"`
}

func (f Finding) String() string {
	s := fmt.Sprintf("%s: %s", f.Fault, f.Place)
	if f.Part > 0 {
		s += fmt.Sprintf(", part %d", f.Part)
	}
	if f.Text != "" {
		s += ": " + f.Text
	}
	return s
}

// MaxFindings is how many findings Verify keeps. It counts all.
const MaxFindings = 1000

// Report is what Verify found.
type Report struct {
	Units    uint64    `json:"units"`
	Events   uint64    `json:"events"` // that the sink holds; each part counts
	Faults   uint64    `json:"faults"`
	Findings []Finding `json:"findings"` // the first MaxFindings

	// Common is the last unit up to which the sink agrees with the log; nil: there is none.
	Common *Position `json:"common,omitempty"`

	// Older is the last unit that follows an older definition of the slot; nil: there is none. What
	// lies up to it is not compared.
	Older *Position `json:"older,omitempty"`
}

// Verify compares the units of a sink from one position to another with what the log delivers,
// which next returns event by event until io.EOF, in the parts of the sink's limits. It recomputes
// the digest of each unit that the sink holds. The error says why it could not go on; faults are no
// error.
func Verify(ctx context.Context, s Sink, from, to Position, next func(context.Context) (Event, error)) (Report, error) {
	v := &verifier{next: next}
	if err := v.advance(ctx); err != nil {
		return v.report, err
	}

	damage := s.Read(ctx, from, to, func(e Event) error { return v.stored(ctx, e) })
	if damage != nil && !errors.Is(damage, ErrDamaged) {
		return v.report, damage
	}

	if v.want.Body == nil || v.want.Position != v.unit { // else the last unit lacks something
		v.settle()
	}
	for v.want.Body != nil {
		v.missing(v.want)
		if err := v.advance(ctx); err != nil {
			return v.report, err
		}
	}

	v.settle()
	if damage != nil {
		v.find(Finding{Fault: FaultDamaged, Text: damage.Error()})
	}

	return v.report, nil
}

// item identifies an event or a part of one.
type item struct {
	Position
	index uint64
	part  uint32
}

func itemOf(e Event) item { return item{e.Position, e.Index, e.Part.Number} }

func (i item) compare(o item) int {
	if c := i.Position.Compare(o.Position); c != 0 {
		return c
	}
	if i.index != o.index {
		if i.index < o.index {
			return -1
		}
		return 1
	}
	return int(i.part) - int(o.part)
}

// verifier walks through what a sink holds and what the log delivers, side by side.
type verifier struct {
	next   func(context.Context) (Event, error)
	want   Event // next event of the log; without a body: none is left
	report Report

	unit   Position          // under way in the sink
	begun  bool              //
	ended  bool              // its End was there, and it is not settled yet
	seen   map[item]struct{} // events of the unit that the sink holds
	lost   map[item]Finding  // events that the sink has not shown yet
	wrong  []wrong           // events with another content
	digest Digester
	broken bool // the digest of the unit cannot be computed

	gap *Position // the newest unit that stands for others; only its digest is compared
}

// wrong is an event whose content is not that of the log.
type wrong struct {
	at        Finding
	has, want [sha256.Size]byte
}

func (v *verifier) advance(ctx context.Context) error {
	e, err := v.next(ctx)
	if isEOF(err) {
		v.want = Event{}
		return nil
	}
	v.want = e
	return err
}

func (v *verifier) stored(ctx context.Context, e Event) error {
	v.report.Events++
	v.digestOf(e)
	at := itemOf(e)
	place := Finding{Place: e.Place, Part: e.Part.Number}

	if g, ok := e.Body.(*Gap); ok {
		if err := v.leap(ctx, e.Position, g.After); err != nil {
			return err
		}
	}
	if v.gap != nil && *v.gap == e.Position {
		if _, seen := v.seen[at]; seen {
			place.Fault = FaultDoubled
			v.find(place)
		}
		v.seen[at] = struct{}{}
		return nil
	}

	for v.want.Body != nil && v.want.ChainID == e.ChainID && itemOf(v.want).compare(at) < 0 {
		v.missing(v.want)
		if err := v.advance(ctx); err != nil {
			return err
		}
	}

	switch _, seen := v.seen[at]; {
	case seen:
		place.Fault = FaultDoubled
		v.find(place)

	case v.want.Body != nil && v.want.ChainID == e.ChainID && itemOf(v.want) == at:
		v.seen[at] = struct{}{}
		if has, want := contentHash(e), contentHash(v.want); has != want {
			place.Text = different(e, v.want)
			v.wrong = append(v.wrong, wrong{place, has, want})
		}
		return v.advance(ctx)

	case isPlace(e): // the filter leaves nothing of the unit, and the sink was told where it stands

	default:
		if _, late := v.lost[at]; late {
			delete(v.lost, at)
			v.seen[at] = struct{}{}
			place.Fault, place.Text = FaultSwapped, "it comes after later events"
		} else {
			place.Fault = FaultForeign
		}
		v.find(place)
	}

	return nil
}

// leap passes over the units of the log for which a unit of the sink stands: those after the unit
// before it, up to its own position.
func (v *verifier) leap(ctx context.Context, to Position, after *Position) error {
	v.gap = &to
	for v.want.Body != nil && v.want.Position.Compare(to) <= 0 {
		if after != nil && v.want.Position.Compare(*after) <= 0 {
			v.missing(v.want)
		}
		if err := v.advance(ctx); err != nil {
			return err
		}
	}
	return nil
}

// isPlace reports whether an event is the End of a unit that delivers nothing else.
func isPlace(e Event) bool {
	end, ok := e.Body.(*End)
	return ok && end.Delivered == 0
}

// digestOf recomputes the digest of the sink's unit, and compares it at the end of the unit.
func (v *verifier) digestOf(e Event) {
	if !v.begun || e.Position != v.unit {
		if v.begun && e.Position.Compare(v.unit) > 0 {
			v.settle()
		}
		v.unit, v.begun, v.broken = e.Position, true, false
		v.digest.Begin(e.ChainID, e.Position)
		if v.seen == nil || len(v.seen) > 0 {
			v.seen = make(map[item]struct{})
		}
		if v.lost == nil {
			v.lost = make(map[item]Finding)
		}
	}

	end, ends := e.Body.(*End)
	if !ends {
		v.broken = v.digest.Add(e) != nil || v.broken
		return
	}

	v.report.Units++
	sum, err := v.digest.Sum()
	if v.broken || err != nil || !bytes.Equal(sum, end.Digest) {
		v.find(Finding{Fault: FaultDigest, Place: e.Place,
			Text: fmt.Sprintf("the stored events give %.8x, the stored digest is %.8x", sum, end.Digest)})
	}
	v.digest.Begin(e.ChainID, e.Position)
	v.begun, v.ended = true, true
}

func (v *verifier) missing(e Event) {
	if v.lost == nil {
		v.lost = make(map[item]Finding)
	}
	if len(v.lost) < MaxFindings {
		v.lost[itemOf(e)] = Finding{Fault: FaultLost, Place: e.Place, Part: e.Part.Number}
		return
	}
	v.report.Faults++
}

// settle reports what the units so far turned out to lack, and which of their events changed.
func (v *verifier) settle() {
	for _, at := range slices.SortedFunc(maps.Keys(v.lost), item.compare) {
		v.find(v.lost[at])
	}
	clear(v.lost)

	for i, w := range v.wrong {
		w.at.Fault = FaultChanged
		for j, o := range v.wrong {
			if i != j && w.has == o.want {
				w.at.Fault, w.at.Text = FaultSwapped, fmt.Sprintf("it has the content of %s", o.at.Place)
			}
		}
		v.find(w.at)
	}
	v.wrong = v.wrong[:0]

	if v.ended && v.report.Faults == 0 {
		at := v.unit
		v.report.Common = &at
	}
	v.ended = false
}

func (v *verifier) find(f Finding) { v.report.find(f) }

func (r *Report) find(f Finding) {
	r.Faults++
	if len(r.Findings) < MaxFindings {
		r.Findings = append(r.Findings, f)
	}
}

// contentHash returns the hash of what an event says, wherever it stands.
func contentHash(e Event) [sha256.Size]byte {
	h := sha256.New()
	b := append([]byte(e.Body.Kind()), 0)
	if end, ok := e.Body.(*End); ok {
		b = appendBytes(appendBytes(b, end.BlockHash), end.AppHash)
		b = appendBytes(appendNum(appendNum(b, end.Events), end.Delivered), end.Digest)
	}
	h.Write(appendFields(b, e.Body))
	h.Write(e.Payload())
	return [sha256.Size]byte(h.Sum(nil))
}

// different says in which field two events differ.
func different(has, want Event) string {
	switch {
	case has.Body.Kind() != want.Body.Kind():
		return fmt.Sprintf("it is %s, the log has %s", has.Body.Kind(), want.Body.Kind())
	case !bytes.Equal(has.Key(), want.Key()):
		return fmt.Sprintf("its key is %.80q, the log has %.80q", has.Key(), want.Key())
	case !bytes.Equal(has.Payload(), want.Payload()):
		return fmt.Sprintf("its payload has %d bytes that differ from the log's %d", len(has.Payload()),
			len(want.Payload()))
	}
	return ""
}
