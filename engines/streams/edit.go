package streams

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"

	"github.com/coppice-go/coppice/internal/durable"
)

// redefinition is a change of a slot's definition after which it went on from where the sink stood.
// A Redefined event marks the place: it is the last before the End of the first unit after At of
// which the filter leaves something.
type redefinition struct {
	From string    `json:"from"` // hashes
	To   string    `json:"to"`
	At   Position  `json:"at"`           // the last unit that follows From
	In   *Position `json:"in,omitempty"` // the unit with the mark; nil: not delivered yet
}

// marks reports whether the mark belongs to a unit. Units come in order.
func (r *redefinition) marks(at Position) bool {
	switch {
	case r == nil:
		return false
	case r.In == nil && at.Compare(r.At) > 0:
		r.In = &at
	}
	return r.In != nil && *r.In == at
}

// marking returns a copy of the slot's redefinition for a new session, which knows whether the unit
// with the mark was delivered before.
func (sl *slot) marking(ctx context.Context, o *options) (*redefinition, error) {
	f := sl.snapshot()
	if f.Redefined == nil {
		return nil, nil
	}
	r := *f.Redefined
	if r.In != nil {
		return &r, nil
	}

	err := sl.s.reading(ctx, sl.name, o, func(units *reader, _ resting) error {
		for {
			u, err := units.onward(ctx)
			if err != nil || u == nil {
				return err
			}
			if u.cursor.Position.Compare(r.At) <= 0 {
				continue
			}
			if err := u.begin(nil); err != nil {
				return err
			}
			if !u.empty && r.marks(u.cursor.Position) {
				return nil
			}
		}
	})
	if err != nil && !errors.Is(err, errNoUnit) {
		return nil, err
	}

	return &r, nil
}

// marked notes in the slot's file that the unit with the mark is in the sink.
func (sl *slot) marked(r *redefinition, at Position) {
	if r == nil || r.In == nil || at.Compare(*r.In) < 0 {
		return
	}
	sl.mu.Lock()
	defer sl.mu.Unlock()
	if was := sl.file.Redefined; was != nil && was.In == nil && was.To == r.To {
		sl.file.Redefined, sl.dirty = r, true
	}
}

// rewound makes the mark come again if the sink goes back to a position before it.
func (r *redefinition) rewound(to Position) *redefinition {
	if r == nil || r.In != nil && r.In.Compare(to) <= 0 {
		return r
	}
	next := redefinition{From: r.From, To: r.To, At: r.At}
	if to.Compare(r.At) < 0 {
		next.At = to
	}
	return &next
}

// Export returns the text of a slot's definition.
func (s *Streams) Export(name string) ([]byte, error) {
	sl, err := s.slot(name)
	if err != nil {
		return nil, err
	}
	sl.mu.Lock()
	defer sl.mu.Unlock()
	if sl.def.File == "" {
		return nil, sl.defErr
	}
	return sl.def.text, nil
}

// EditOptions say how Edit changes a definition. At most one of FromHere and Rebuild is set.
type EditOptions struct {
	DryRun   bool   // only check the definition and the sink's system
	FromHere bool   // a paused slot goes on under the new one from where the sink stands
	Rebuild  bool   // the sink's data are replaced by a snapshot of the state as it is now, and what follows
	By       string // names the operator, for the history
}

// Edit gives a slot another definition, and writes it to the slot's file. One under which the
// sink's data would differ is refused, unless o says how the slot goes on: from where the sink
// stands, which an event marks, or with a new generation of the sink's data (R26).
func (s *Streams) Edit(ctx context.Context, name string, text []byte, o EditOptions) (notes []string, err error) {
	sl, err := s.slot(name)
	if err != nil {
		return nil, err
	}
	next, notes, err := s.try(ctx, name, text)
	if err != nil {
		return notes, err
	}

	f := sl.snapshot()
	hash := next.def.Hash(next.factory)
	other := f.Definition != "" && f.Definition != hash && !f.Acked.Empty()
	switch {
	case other && sl.kind() != next.def.Kind && sl.kind() != "":
		return notes, fmt.Errorf("%w: the kind was %s and would be %s: add a stream of another name", ErrState,
			sl.kind(), next.def.Kind)
	case o.FromHere && o.Rebuild:
		return notes, fmt.Errorf("%w: it goes on from here or is rebuilt, not both", ErrState)
	case o.Rebuild && !s.canRebuild(next):
		return notes, fmt.Errorf("%w: a sink of kind %s cannot be rebuilt", ErrState, next.def.Kind)
	case other && !o.FromHere && !o.Rebuild:
		return notes, fmt.Errorf("%w: the sink's data follow definition %s, this one is %s: pause the stream "+
			"and say that it goes on from here (--from-here), or rebuild the sink (--rebuild)", ErrState,
			f.Definition, hash)
	case o.DryRun:
		return notes, nil
	case other && o.FromHere:
		if f, err = sl.awaitPaused(ctx); err != nil {
			return notes, err
		}
	}

	if err := durable.OS.Replace(next.def.File, text, 0o600); err != nil {
		return notes, err
	}
	if err := sl.define(next.def); err != nil {
		return notes, err
	}

	act := Act{What: "edit", By: o.By}
	if other {
		act.From = fmt.Sprintf("definition %s at height %s", f.Definition, f.Acked.Position)
	}
	switch {
	case o.Rebuild:
		act.What = fmt.Sprintf("edit, rebuilt under definition %s", hash)
	case other:
		act.What = fmt.Sprintf("edit, from here under definition %s", hash)
	}
	return notes, sl.act(act, func(f *slotFile) {
		switch {
		case o.Rebuild:
			f.Redefined, f.Bootstrap = nil, &bootstrapping{}
		case other:
			from := f.Definition
			if r := f.Redefined; r != nil && r.In == nil { // nothing was delivered since
				from = r.From
			}
			f.Redefined, f.Definition = nil, hash
			if from != hash {
				f.Redefined = &redefinition{From: from, To: hash, At: f.Acked.Position}
			}
		}
	})
}

// canRebuild reports whether the sink of a slot can begin anew with a snapshot.
func (s *Streams) canRebuild(sl *slot) bool {
	sink, err := sl.factory.New(sl.def, sl.secrets)
	if err != nil || s.o.Snapshots == nil {
		return false
	}
	_, ok := sink.(Bootstrapper)
	return ok
}

func (sl *slot) kind() string {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	return sl.def.Kind
}

// try checks a definition and the sink's system, and returns a slot that is not in use.
func (s *Streams) try(ctx context.Context, name string, text []byte) (sl *slot, notes []string, err error) {
	d, err := ParseDefinition(filepath.Join(s.o.Definitions, name+".toml"), text)
	if err != nil {
		return nil, nil, err
	}
	sl = s.newSlot(name, slotFile{})
	if err := sl.define(d); err != nil {
		return nil, nil, err
	}

	err = sl.use(ctx, func(d *session) error {
		c, ok := d.sink.(Checker)
		if !ok {
			_, err := d.observe(ctx)
			return err
		}
		notes, err = asked(ctx, d.slot, c.Check)
		return err
	})

	return sl, notes, err
}

// Reload reads the definitions again. If one of them cannot be used, nothing changes. A slot whose
// definition is gone waits for it, or for Drop.
func (s *Streams) Reload() error {
	defs, err := s.readDefinitions()
	if err != nil {
		return err
	}

	next := make(map[string]*slot)
	var errs []error
	for name, d := range defs {
		sl := s.newSlot(name, slotFile{})
		errs = append(errs, sl.define(d))
		next[name] = sl
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}

	for name, fresh := range next {
		sl, err := s.slot(name)
		if err != nil {
			if err := s.enter(fresh); err != nil {
				return err
			}
			continue
		}
		if sl.same(fresh.def) {
			continue
		}
		if err := sl.define(fresh.def); err != nil {
			return err
		}
		if err := sl.act(Act{What: "edit", By: "its file, which was read again"}, func(*slotFile) {}); err != nil {
			return err
		}
	}

	for _, sl := range s.all() {
		if _, ok := defs[sl.name]; ok {
			continue
		}
		sl.mu.Lock()
		sl.defErr = Fail(Misconfigured, fmt.Errorf("slot %s has no definition %s.toml any more", sl.name, sl.name))
		sl.mu.Unlock()
		gone := Act{What: "definition removed", By: "its file, which is gone"}
		if err := sl.act(gone, func(*slotFile) {}); err != nil {
			return err
		}
	}

	return nil
}

// same reports whether the slot has a definition of this text, with these files of descriptors.
func (sl *slot) same(d Definition) bool {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	return sl.defErr == nil && string(sl.def.text) == string(d.text) &&
		maps.EqualFunc(sl.def.descriptors, d.descriptors, bytes.Equal)
}

// enter makes a slot one of the node's.
func (s *Streams) enter(sl *slot) error {
	s.mu.Lock()
	s.slots[sl.name] = sl
	log := s.log
	s.mu.Unlock()
	if log != nil {
		sl.hold(log)
	}
	s.news()
	return sl.save()
}

// Replay writes the units from one position to another into the sink of another definition, which
// is empty or stands one unit before. The slot called name says only that its log is meant. It
// returns where the other sink stands, and how many events it took.
func (s *Streams) Replay(ctx context.Context, name string, from, to Position, into string, text []byte) (
	at Cursor, events uint64, err error) {
	if _, err := s.slot(name); err != nil {
		return at, 0, err
	}
	if _, err := s.slot(into); err == nil {
		return at, 0, fmt.Errorf("%w: there is a stream %q: a replay goes into a sink of its own", ErrState, into)
	}
	target, _, err := s.try(ctx, into, text)
	if err != nil {
		return at, 0, err
	}

	err = target.use(ctx, func(d *session) error {
		c, err := d.observe(ctx)
		if err != nil {
			return err
		}
		if err := d.open(ctx, c.Epoch+1, ""); err != nil {
			return err
		}
		if err := d.replay(ctx, from, to); err != nil {
			return err
		}
		at, events = d.cursor, target.counted().Events
		return nil
	})

	return at, events, err
}

func (sl *slot) counted() Counts {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	return sl.counts
}

// replay delivers the units from one position to another.
func (d *session) replay(ctx context.Context, from, to Position) error {
	return d.s.reading(ctx, d.name, d.o, func(r *reader, first resting) error {
		if from.Compare(first.at) < 0 {
			return fmt.Errorf("%w: %s, it begins at %s", ErrNoHeight, from, first.at)
		}

		for {
			u, err := r.onward(ctx)
			if err != nil || u == nil || u.cursor.Position.Compare(to) > 0 {
				return err
			}
			if at := u.cursor.Position; at.Compare(from) < 0 ||
				!d.cursor.Empty() && at.Compare(d.cursor.Position) <= 0 {
				continue
			}
			if err := u.begin(d.after()); err != nil {
				return err
			}
			if u.empty {
				continue
			}

			v := newDelivery(nil, u, d.after(), d.window(), d.s.now)
			err = d.call(ctx, v.since, func(ctx context.Context) error { return d.sink.Write(ctx, v) })
			if err != nil {
				return err
			}
			d.cursor = d.reached(v)
			d.count(func(c *Counts) { c.Events += uint64(v.events) })
		}
	})
}
