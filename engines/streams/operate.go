package streams

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/coppice-go/coppice/internal/durable"
)

var (
	// ErrState means that a slot is not in the state that an act wants.
	ErrState = errors.New("the stream is not in the state for this")

	// ErrNoHeight means that the log does not have a height.
	ErrNoHeight = errors.New("the log does not have the height")
)

// use makes a sink of a slot's definition for something beside the slot's writer, and closes it.
// What is asked of the sink by the session has the deadline of a brief call.
func (sl *slot) use(ctx context.Context, f func(*session) error) error {
	w := &writer{slot: sl}
	w.load()
	if w.defErr != nil {
		return w.defErr
	}
	o, err := w.options(ctx)
	if err != nil {
		return err
	}
	sink, err := w.factory.New(w.def, w.secrets)
	if err != nil {
		return err
	}
	d := &session{writer: w, sink: sink, o: o}
	defer d.close(ctx)
	if err := d.limit(ctx); err != nil {
		return err
	}

	return f(d)
}

// Verify compares what a sink holds, from one position to another, with what the log delivers
// (R39). It stops at the sink's cursor, or where this node knows that it stood. What lies before
// the log's first record is left out. The error ErrNoRead means that the sink cannot be read.
func (s *Streams) Verify(ctx context.Context, name string, from, to Position) (report Report, err error) {
	sl, err := s.slot(name)
	if err != nil {
		return report, err
	}

	err = sl.use(ctx, func(d *session) error {
		o := d.o
		if f := sl.snapshot(); f.Bootstrap != nil && f.Definition != "" && f.Definition != d.hash() {
			return fmt.Errorf("%w: %s is being rebuilt, and until that is done its data follow the old definition",
				ErrState, name)
		}
		var older *Position
		c, err := d.observe(ctx)
		known := sl.snapshot().Acked // what the sink said once, whatever damage hides now
		if err != nil && known.Empty() {
			return err
		}
		if err != nil || c.Empty() || c.Position.Compare(known.Position) < 0 {
			c = known
		}
		if c.Empty() {
			return nil
		}
		whole := c.Position.Compare(to) < 0
		if whole {
			to = c.Position
		}

		return s.reading(ctx, name, o, func(r *reader, first resting) error {
			if from.Compare(first.at) < 0 {
				from = first.at
			}
			if from, err = o.comparable(ctx, s.o.Versions, from); err != nil {
				return err
			}
			if o.mark, err = sl.marking(ctx, o); err != nil {
				return err
			}
			if m := o.mark; m != nil && from.Compare(m.At) <= 0 { // what is before follows another definition
				from = Position{Period: m.At.Period, Height: m.At.Height + 1}
				older = &m.At
			}

			report, err = Verify(ctx, bounded{d.sink, sl}, from, to, unitsOf(r, from, to))
			report.Older = older
			if err != nil || !whole {
				return err
			}
			return d.strays(ctx, &report)
		})
	})
	if errors.Is(err, errNoUnit) {
		return report, nil
	}

	return report, err
}

// strays adds what the sink holds outside of its units to a report.
func (d *session) strays(ctx context.Context, report *Report) error {
	s, ok := d.sink.(StraySink)
	if !ok {
		return nil
	}
	places, err := asked(ctx, d.slot, s.Strays)
	for _, at := range places {
		report.find(Finding{Fault: FaultForeign, Place: at, Text: "it lies outside of the sink's blocks"})
	}
	return err
}

// readDeadlines is for how many deadlines a sink that is read may pass nothing on. It may make its
// connections anew meanwhile.
const readDeadlines = 3

// bounded is a sink whose Read ends if the external system falls silent.
type bounded struct {
	Sink
	slot *slot
}

// Read implements Sink. The time in f does not count: f reads the log, and may pass over much of
// it.
func (b bounded) Read(ctx context.Context, from, to Position, f func(Event) error) error {
	var mu sync.Mutex // held while f runs
	last, over := b.slot.s.now(), false
	progress := func() time.Time {
		if !mu.TryLock() {
			return b.slot.s.now()
		}
		defer mu.Unlock()
		return last.Add((readDeadlines - 1) * b.slot.s.o.Deadline)
	}

	err := b.slot.call(ctx, progress, func(ctx context.Context) error {
		return b.Sink.Read(ctx, from, to, func(e Event) error {
			mu.Lock()
			defer mu.Unlock()
			if over { // an orphan goes on
				return errOrphan
			}
			err := f(e)
			last = b.slot.s.now()
			return err
		})
	})
	mu.Lock()
	defer mu.Unlock()
	over = true
	if errors.Is(err, errDeadline) {
		return fmt.Errorf("the sink passes nothing on: %w", err)
	}

	return err
}

// RetainerPrefix begins the names of the retainers of Verify, Preview and Replay, which last as
// long as the call.
const RetainerPrefix = "reading of stream "

// errNoUnit: the log has no whole unit, so it has no height at all.
var errNoUnit = fmt.Errorf("%w: it has no block", ErrNoHeight)

// reading calls f with a reader of what the log has, for something beside the slot's writer. first
// is the log's first whole unit. What the reader has not read yet is not truncated meanwhile:
// nothing else need hold it, as the slots may be far ahead.
func (s *Streams) reading(ctx context.Context, name string, o *options, f func(r *reader, first resting) error) error {
	log, err := s.o.Log()
	if err != nil {
		return Fail(Unreachable, err)
	}
	hold, err := log.Retain(ctx, fmt.Sprintf("%s%s, %d", RetainerPrefix, name, s.readings.Add(1)), 0)
	if err != nil {
		return Fail(Unreachable, err)
	}
	defer hold.Release()

	first, ok, err := firstUnit(ctx, log)
	if err != nil {
		return err
	}
	if !ok {
		return errNoUnit
	}
	r := newReader(s.o.Log, o, first.index)
	r.hold = hold
	defer r.close()

	return f(r, first)
}

// firstUnit returns where the first unit lies that the log has whole: index is that of the first
// record to read.
func firstUnit(ctx context.Context, log Log) (r resting, ok bool, err error) {
	st, err := log.Stat(ctx)
	if err != nil {
		return r, false, err
	}
	r, ok, err = restingFrom(ctx, log, st.First)
	if err != nil || !ok {
		return r, ok, err
	}
	if r.isStart() {
		return r, true, nil
	}

	// The decision on the first block may be gone, so begin with the second one.
	after := r.index + 1
	r, ok, err = restingFrom(ctx, log, after)
	r.index = after
	return r, ok, err
}

// unitsOf returns the events of the units from one position to another, one at a time.
func unitsOf(r *reader, from, to Position) func(context.Context) (Event, error) {
	var u *unit
	return func(ctx context.Context) (Event, error) {
		for {
			if u != nil {
				e, err := u.next()
				if err != io.EOF {
					return e, err
				}
			}

			var err error
			if u, err = r.onward(ctx); err != nil {
				return Event{}, err
			}
			if u == nil || u.cursor.Position.Compare(to) > 0 {
				return Event{}, io.EOF
			}
			if err := u.begin(nil); err != nil {
				return Event{}, err
			}
			if u.empty || u.cursor.Position.Compare(from) < 0 {
				u = nil
			}
		}
	}
}

// Preview calls f with the events of a unit as a slot would deliver them.
func (s *Streams) Preview(ctx context.Context, name string, at Position, f func(Event) error) error {
	sl, err := s.slot(name)
	if err != nil {
		return err
	}

	return sl.use(ctx, func(d *session) error {
		return s.reading(ctx, name, d.o, func(r *reader, first resting) error {
			if at.Compare(first.at) < 0 {
				return fmt.Errorf("%w: %s", ErrNoHeight, at)
			}

			next := unitsOf(r, at, at)
			for n := 0; ; n++ {
				e, err := next(ctx)
				if err == io.EOF && n == 0 {
					return fmt.Errorf("%w: %s, or the filter leaves nothing of it", ErrNoHeight, at)
				}
				if err == io.EOF {
					return nil
				}
				if err != nil {
					return err
				}
				if err := f(e); err != nil {
					return err
				}
			}
		})
	})
}

// Rewind removes from the sink of a paused slot the units after a position, which then come again.
// Events that were parked there are tried again.
func (s *Streams) Rewind(ctx context.Context, name string, to Position, by string) error {
	sl, err := s.slot(name)
	if err != nil {
		return err
	}
	return s.rewind(ctx, sl, to, by)
}

func (s *Streams) rewind(ctx context.Context, sl *slot, to Position, by string) error {
	f, err := sl.awaitPaused(ctx)
	if err != nil {
		return err
	}

	return sl.use(ctx, func(d *session) error {
		r, ok := d.sink.(Rewinder)
		if !ok {
			return fmt.Errorf("%w: a sink of kind %s cannot rewind", ErrState, d.def.Kind)
		}
		c, err := d.observe(ctx)
		if err != nil {
			return err
		}

		if !d.mine(c) {
			return fmt.Errorf("%w: another writer has claimed the sink (epoch %d, here %d)", ErrState, c.Epoch, f.Epoch)
		}
		epoch, err := d.take(ctx, c)
		if err != nil {
			return err
		}
		if err := d.claimedOnly(epoch); err != nil {
			return err
		}
		c, err = r.Rewind(ctx, &to) // it may have much to remove: only the operator ends it
		if err != nil {
			return err
		}

		sl.mu.Lock()
		err = sl.unpark(to)
		sl.mu.Unlock()
		if err != nil {
			return err
		}

		return sl.act(Act{What: fmt.Sprintf("rewind to %s", to), By: by, From: f.Acked.String()}, func(f *slotFile) {
			f.Acked, f.Passed, f.Lost = c, nil, false
			f.Redefined = f.Redefined.rewound(to)
		})
	})
}

// RewindCommon rewinds the sink of a paused slot to the last unit up to which it agrees with the
// log, and returns the unit's position.
func (s *Streams) RewindCommon(ctx context.Context, name, by string) (Position, error) {
	if sl, err := s.slot(name); err != nil {
		return Position{}, err
	} else if _, err := sl.awaitPaused(ctx); err != nil {
		return Position{}, err
	}

	report, err := s.Verify(ctx, name, Position{}, Position{Period: math.MaxUint64, Height: math.MaxUint64})
	if err != nil {
		return Position{}, err
	}
	if report.Common == nil && report.Older != nil {
		return Position{}, fmt.Errorf("%w: the sink's blocks up to %s follow an older definition and cannot be "+
			"compared, and none after it agrees with the log: name a height", ErrState, *report.Older)
	}
	if report.Common == nil {
		return Position{}, fmt.Errorf("%w: no block of the sink agrees with the log", ErrState)
	}

	return *report.Common, s.Rewind(ctx, name, *report.Common, by)
}

// awaitPaused waits until a slot that an operator has paused no longer delivers.
func (sl *slot) awaitPaused(ctx context.Context) (slotFile, error) {
	for {
		changed := sl.s.Changed()
		f := sl.snapshot()
		switch {
		case !f.Paused:
			return f, fmt.Errorf("%w: %s is %s; pause it first", ErrState, sl.name, f.State)
		case f.State == Paused:
			return f, nil
		}

		select {
		case <-changed:
		case <-ctx.Done():
			return f, context.Cause(ctx)
		}
	}
}

// Add makes a slot of a definition, which it writes to the directory of definitions. With dryRun it
// only checks the definition and the sink's system. notes are what the operator should know.
func (s *Streams) Add(ctx context.Context, name string, text []byte, dryRun bool) (notes []string, err error) {
	if _, err := s.slot(name); err == nil {
		return nil, fmt.Errorf("%w: there is a stream %q already", ErrState, name)
	}
	sl, notes, err := s.try(ctx, name, text)
	if err != nil || dryRun {
		return notes, err
	}

	if err := os.MkdirAll(s.o.Definitions, 0o700); err != nil {
		return notes, err
	}
	if err := durable.OS.Replace(sl.def.File, text, 0o600); err != nil {
		return notes, err
	}

	return notes, s.enter(sl)
}

// Drop forgets a slot: its definition, its file and its hold on the log. With forgetSink it removes
// from the external system what the sink has made there.
func (s *Streams) Drop(ctx context.Context, name string, forgetSink bool) (err error) {
	sl, err := s.slot(name)
	if err != nil {
		return s.dropFile(name, err)
	}

	if err := sl.leave(ctx); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			sl.stay()
		}
	}()

	if forgetSink {
		err := sl.use(ctx, func(d *session) error {
			f, ok := d.sink.(Forgetter)
			if !ok {
				return fmt.Errorf("%w: a sink of kind %s cannot be removed from here", ErrState, d.def.Kind)
			}
			c, err := d.observe(ctx)
			if err != nil {
				return err
			}
			if !d.mine(c) {
				return fmt.Errorf("%w: another writer has claimed the sink (epoch %d, here %d), so its data are not "+
					"removed", ErrState, c.Epoch, sl.snapshot().Epoch)
			}
			return f.Forget(ctx) // it may have much to remove: only the operator ends it
		})
		if err != nil {
			return err
		}
	}

	if err := sl.remove(); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.slots, name)
	s.mu.Unlock()

	return nil
}

// remove removes the files of a slot, the definition last: if it fails, the slot is as it was, and
// can be dropped again.
func (sl *slot) remove() error {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	for _, path := range []string{slotPath(sl.s.o.Data, sl.name), parkedPath(sl.s.o.Data, sl.name),
		filepath.Join(sl.s.o.Definitions, sl.name+".toml")} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			sl.dirty = true
			return err
		}
	}

	sl.gone = true
	if sl.retainer != nil {
		sl.retainer.Release()
	}
	sl.wakeLocked()

	return nil
}

// dropFile removes a slot file that cannot be read, and lets the log go when none is left.
func (s *Streams) dropFile(name string, otherwise error) error {
	if CheckName(name) != nil || strings.ContainsAny(name, `/\`) {
		return otherwise
	}
	if err := os.Remove(slotPath(s.o.Data, name)); err != nil {
		return otherwise
	}

	_, err := readSlots(s.o.Data)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken = err; err == nil && s.hostage != nil {
		s.hostage.Release()
		s.hostage = nil
	}

	return nil
}
