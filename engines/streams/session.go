package streams

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

const (
	// idleEvery and idleBlocks say when a sink whose filter leaves nothing is told where it stands.
	idleEvery  = 10 * time.Second
	idleBlocks = 1_000

	// beatShare is the share of the lease after which a writer gives a sign of life.
	beatShare = 4

	// lookShare is the share of the lease after which a standby looks at the sink, and longestLook
	// the longest time between two looks. Together with the claim they are what a takeover takes
	// beyond the lease.
	lookShare   = 20
	longestLook = 250 * time.Millisecond
)

// session makes a sink, claims it and delivers to it until something fails.
func (w *writer) session(ctx context.Context) (err error) {
	if !w.enter() {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	defer w.exit()

	file := w.snapshot()
	switch {
	case file.Paused:
		w.set(Paused, nil)
		<-ctx.Done()
		return context.Cause(ctx)
	case file.Lost && file.Bootstrap == nil && !w.def.whenLost():
		return Fail(Lost, errors.New("the slot passed its cap, and the log is no longer kept for it"))
	case w.defErr != nil:
		return w.defErr
	}
	if file.State == Paused || file.State == "" {
		w.set(Starting, nil)
	}

	o, err := w.options(ctx)
	if err != nil {
		return Fail(Misconfigured, err)
	}
	sink, err := w.factory.New(w.def, w.secrets)
	if err != nil {
		return Fail(Misconfigured, err)
	}
	d := &session{writer: w, sink: sink, o: o}
	defer func() { d.close(ctx) }()

	at, err := d.claim(ctx)
	if err != nil {
		return err
	}
	if err := d.limit(ctx); err != nil {
		return err
	}
	if d.o.mark, err = d.marking(ctx, d.o); err != nil {
		return err
	}

	return d.run(ctx, at)
}

// options returns what the definition makes of events.
func (w *writer) options(ctx context.Context) (*options, error) {
	filter, err := ParseFilter(w.def.Filter)
	if err != nil {
		return nil, err
	}
	list, err := w.def.codecList()
	if err != nil {
		return nil, err
	}
	return &options{def: w.def, filter: filter, codecs: list, request: w.s.o.Request,
		limit: w.factory.Limits.PayloadLimit(), parked: w.isParked, previous: w.previousValues(ctx, filter)}, nil
}

// session is one use of a sink.
type session struct {
	*writer
	sink   Sink
	o      *options
	cursor Cursor // of the sink
	lapsed uint64 // epoch whose writer gave no sign of life for the lease

	place     *unit // the newest unit of which the filter left nothing
	skipped   int   // how many there were since the last delivery
	idleSince time.Time

	hole *hole // before the first unit to deliver; nil: there is none

	wentBack bool   // the sink's cursor was behind the one that this node knew
	goal     uint64 // record of the log up to which the slot is catching up; 0: it is not
}

// farBehind is how many records a slot lacks that is not live yet.
const farBehind = 1_000

// aim makes the slot catch up with the log as it is now, if it is far behind or its sink went back.
func (d *session) aim(ctx context.Context, index uint64) error {
	log, err := d.s.o.Log()
	if err != nil {
		return Fail(Unreachable, err)
	}
	st, err := log.Stat(ctx)
	if err != nil {
		return err
	}
	if d.wentBack || st.Durable > index+farBehind {
		d.goal = st.Durable
	}
	d.delivers(index)

	return nil
}

// delivers sets the state of a slot that has delivered up to a record.
func (d *session) delivers(index uint64) {
	if index < d.goal {
		d.set(CatchingUp, nil)
		return
	}
	d.goal = 0
	d.set(Live, nil)
}

func (d *session) close(ctx context.Context) {
	d.brief(context.WithoutCancel(ctx), d.sink.Close)
}

// observe returns the sink's cursor.
func (d *session) observe(ctx context.Context) (Cursor, error) {
	return asked(ctx, d.slot, d.sink.Observe)
}

// open claims the sink for an epoch.
func (d *session) open(ctx context.Context, epoch uint64, native string) (err error) {
	d.cursor, err = asked(ctx, d.slot, func(ctx context.Context) (Cursor, error) {
		return d.sink.Open(ctx, Opening{Slot: d.name, ChainID: d.s.o.ChainID(), Definition: d.hash(),
			Epoch: epoch, Holder: d.s.o.Holder, Native: native})
	})
	return err
}

// limit asks the sink for its limits.
func (d *session) limit(ctx context.Context) error {
	l, ok := d.sink.(Limiter)
	if !ok {
		return nil
	}
	limits, err := asked(ctx, d.slot, l.Limits)
	d.o.limit = limits.PayloadLimit()
	return err
}

// after returns the sink's unit, or nil if it is empty.
func (d *session) after() *Position {
	if d.cursor.Empty() {
		return nil
	}
	at := d.cursor.Position
	return &at
}

// run delivers what comes after a record.
func (d *session) run(ctx context.Context, index uint64) error {
	r := newReader(d.s.o.Log, d.o, index+1)
	defer r.close()
	r.last = d.after()
	if err := d.aim(ctx, index); err != nil {
		return err
	}
	if d.hole != nil {
		r.last = &d.hole.at
		if err := d.first(ctx, r, gapUnit(d.hole, d.o, d.after())); err != nil {
			return err
		}
	}

	for {
		u, err := d.awaitUnit(ctx, r)
		if u, err = d.gap(u, err); err != nil {
			return err
		}
		if u == nil {
			d.delivers(d.goal) // nothing is left of what the log had
			u = d.idle()
		} else if err := u.begin(d.after()); err != nil {
			return err
		} else if u.empty {
			d.skip(u)
			if u = d.idle(); u == nil {
				continue
			}
		}

		if err := d.deliver(ctx, r, u); err != nil {
			return err
		}
	}
}

// first delivers a unit that does not come from the reader.
func (d *session) first(ctx context.Context, r *reader, u *unit) error {
	if err := u.begin(d.after()); err != nil {
		return err
	}
	return d.deliver(ctx, r, u)
}

// skip notes a unit of which the filter leaves nothing.
func (d *session) skip(u *unit) {
	if d.skipped == 0 {
		d.idleSince = d.s.now()
	}
	d.skipped++
	d.place = u.place()
	d.pass(u.cursor, u.index)
}

// idle returns the place to tell the sink if it is due (R27), or nil.
func (d *session) idle() *unit {
	if d.skipped == 0 || d.skipped < idleBlocks && d.s.now().Sub(d.idleSince) < idleEvery {
		return nil
	}
	u := d.place
	if err := u.begin(d.after()); err != nil {
		return nil // not of a unit in memory
	}
	return u
}

// awaitUnit waits for a unit for at most the time after which the writer gives a sign of life; it
// returns nil then.
func (d *session) awaitUnit(ctx context.Context, r *reader) (*unit, error) {
	beat, cancel := context.WithTimeoutCause(ctx, d.s.o.Lease/beatShare, errBeat)
	defer cancel()
	u, err := r.unit(beat, true)
	if err != nil && ctx.Err() == nil && beat.Err() != nil {
		return nil, nil
	}
	return u, err
}

var errBeat = errors.New("a beat is due")

// gap applies on_gap to the error of a reader.
func (d *session) gap(u *unit, err error) (*unit, error) {
	h := new(hole)
	if !errors.As(err, &h) || d.def.OnGap != "record" {
		return u, err
	}
	return gapUnit(h, d.o, d.after()), nil
}

// deliver writes a delivery that begins with u; nil is a beat.
func (d *session) deliver(ctx context.Context, r *reader, u *unit) error {
	v := newDelivery(r, u, d.after(), d.window(), d.s.now)
	v.told = d.credited
	begun := d.s.now()
	err := d.call(ctx, v.since, func(ctx context.Context) error { return d.sink.Write(ctx, v) })

	f := new(Failure)
	if errors.As(err, &f) && f.Class == RejectedEvent && d.def.OnReject == "park" {
		return d.putAside(v.refused(f.Place), f)
	}
	if err != nil {
		return err
	}

	if !v.last.Empty() {
		d.skipped = 0
		d.cursor = d.reached(v)
		d.marked(d.o.mark, d.cursor.Position)
		d.acknowledge(d.cursor, v.lastIndex, v.lastTime)
		took := d.s.now().Sub(begun)
		d.count(func(c *Counts) {
			c.Events += uint64(v.events)
			c.Bytes += uint64(v.bytes)
			c.AckNanos = int64(took)
		})
		d.s.o.Acked(d.name, took)
		d.delivers(v.lastIndex)
	}
	if v.passed != nil {
		d.skip(v.passed)
	}

	if v.stopped != nil {
		u, err := d.gap(nil, v.stopped)
		if err != nil {
			return err
		}
		return d.first(ctx, r, u)
	}

	return nil
}

// reached returns the cursor of the sink after a delivery.
func (d *session) reached(v *delivery) Cursor {
	return Opening{Definition: d.hash(), Epoch: d.cursor.Epoch}.Cursor(Event{
		Place: Place{ChainID: v.last.ChainID, Position: v.last.Position},
		Body: &End{BlockHash: v.last.BlockHash, AppHash: v.last.AppHash, Events: v.last.Events,
			Digest: v.last.Digest}})
}

// putAside parks the event that was refused, and ends the session, so that the unit is delivered
// again with a marker in its place.
func (d *session) putAside(e Event, f *Failure) error {
	if err := d.park(e, f.Err); err != nil {
		return &Failure{Class: RejectedEvent, Place: f.Place, Err: err}
	}
	return errPoked
}

// window returns how many bytes the slot may deliver without credit.
func (d *session) window() int64 {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	return min(8<<20, max(64<<10, d.s.o.Memory/int64(2*max(1, len(d.s.slots)))))
}

// errDeadline ends a call of a sink that has made no progress for the deadline.
var errDeadline = errors.New("no credit and no answer within the deadline")

// errOrphan: a sink ignores the end of its context, and runs on.
var errOrphan = errors.New("the sink ignores the end of its context")

// graceShare is the share of the deadline that a sink has to obey the end of its context.
const graceShare = 4

// call runs a call of a sink, in a goroutine of its own. progress returns when the sink has last
// made progress. A call without progress for the deadline is cancelled, and given up if it does not
// return soon after: the sink is then an orphan, which the next claim fences. A panic is a failure
// of class Bug.
func (sl *slot) call(ctx context.Context, progress func() time.Time, f func(context.Context) error) error {
	deadline := sl.s.o.Deadline
	calling, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	done := make(chan error, 1)
	go func() { done <- guarded("the sink", func() error { return f(calling) }) }()

	check := time.NewTicker(max(deadline/8, time.Millisecond))
	defer check.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return sl.await(done, cancel, context.Cause(ctx))
		case <-check.C:
			if sl.s.now().Sub(progress()) >= deadline {
				return sl.await(done, cancel, errDeadline)
			}
		}
	}
}

// guarded runs f in a goroutine of its own. A panic, or the end of that goroutine, is a failure of
// class Bug of the named one: it ends neither the process nor the caller.
func guarded(what string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		err := Fail(Bug, fmt.Errorf("%s ended its goroutine", what))
		defer func() {
			if p := recover(); p != nil {
				err = Fail(Bug, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
			}
			done <- err
		}()
		err = f()
	}()

	return <-done
}

// await cancels a call and waits for its end.
func (sl *slot) await(done <-chan error, cancel context.CancelCauseFunc, why error) error {
	cancel(why)
	grace := time.NewTimer(sl.s.o.Deadline / graceShare)
	defer grace.Stop()

	select {
	case err := <-done:
		if err == nil || !errors.Is(why, errDeadline) {
			return err
		}
		return &Failure{Class: Unreachable, Err: fmt.Errorf("%w: %w", why, err)}
	case <-grace.C:
		sl.count(func(c *Counts) { c.Orphans++ })
		return Fail(Bug, fmt.Errorf("%w: %w", errOrphan, why))
	}
}

// asked is brief for a call with an answer. What an orphan answers later is dropped.
func asked[T any](ctx context.Context, sl *slot, f func(context.Context) (T, error)) (answer T, err error) {
	answers := make(chan T, 1)
	err = sl.brief(ctx, func(ctx context.Context) error {
		a, err := f(ctx)
		answers <- a
		return err
	})

	select {
	case answer = <-answers:
	default: // it panicked, or is an orphan
	}
	return answer, err
}

// brief runs a call whose progress is its answer alone.
func (sl *slot) brief(ctx context.Context, f func(context.Context) error) error {
	begun := sl.s.now()
	return sl.call(ctx, func() time.Time { return begun }, f)
}
