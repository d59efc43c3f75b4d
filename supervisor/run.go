package supervisor

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Run is one run of a Supervisor, from Start or Serve to its end. One goroutine decides and
// executes everything that OTP's supervisor process would, one thing at a time. So management calls
// wait for a start or a stop that is under way. Kill, Inject, Tree, Orphans and Stop must never
// wait, so they do not go through that goroutine.
type Run struct {
	core
	sup *Supervisor
	up  chan struct{} // closed when all children have acknowledged their start

	// Only main's goroutine writes what core.mu guards, here and in core, so it reads without the
	// lock.
	spec    Spec
	records []*record // in start order
	byID    map[string]*record
	row     row
	single  [1]*record // see only; main's alone
}

// record is one child of a Supervisor. core.mu guards it.
type record struct {
	slot
	kind   Kind // what the last Start made
	state  State
	held   *record // the child for whose delay this one waits, in a group restart; main's alone
	linted bool
}

func newRecord(c Child) *record { return &record{slot: slot{id: c.ID, child: &c}} }

func (rec *record) status() State { return rec.state }

func (rec *record) member() member {
	return member{restart: rec.child.Restart, significant: rec.child.Significant, alive: rec.state == Running ||
		rec.state == Restarting}
}

// kindOf returns the kind of what Start made, or else the declared kind.
func (rec *record) kindOf() Kind {
	if rec.kind == Worker {
		return rec.child.Kind
	}
	return rec.kind
}

func newRun(ctx context.Context, s *Supervisor) (*Run, error) {
	r := &Run{sup: s, spec: *s.specification(), up: make(chan struct{}), byID: map[string]*record{}}
	r.state, r.intensity = Starting, r.spec.Intensity
	if err := r.join(ctx, r.spec.Name, s, r, r.spec.Observers); err != nil {
		return nil, err
	}
	return r, nil
}

// main executes the run.
func (r *Run) main() {
	err := r.start()
	if err == nil {
		r.updateOwn(func() { r.state = Running })
		r.emit(func(h Header) Event {
			return SupervisorStarted{Header: h, Kind: SupervisorKind, Strategy: r.spec.Strategy,
				Intensity: r.intensity}
		})
		close(r.up)
		r.own.acknowledge()
		err = r.loop()
	}

	r.updateOwn(func() { r.state = Stopping })
	r.stopAll()
	r.end(err, r.sup.release)
}

// start starts the children by OTP rules 8, 9, 12, 13, 16 and 17.
func (r *Run) start() error {
	children, err := r.build(r.spec.Build)
	if err != nil {
		return err
	}
	if err := CheckChildren(children, r.spec.AutoShutdown); err != nil {
		return err
	}

	for _, w := range Lint(r.spec, children) {
		r.emit(func(h Header) Event { return Warned{Header: h, Warning: w} })
	}

	r.updateKids(func() {
		for _, c := range children {
			r.add(newRecord(c))
		}
	})

	for list := slices.Clone(r.records); len(list) > 0; {
		if r.stopping() {
			return r.stopError()
		}

		n, err := r.startRow(list, false, false, time.Now())
		if n == len(list) {
			return nil
		}

		switch rec := list[n]; {
		case err == nil, err != ErrIgnore && r.stopping():
			return r.stopError()
		case err != ErrIgnore:
			return err
		case rec.child.Restart == Temporary:
			r.remove(rec)
		}
		list = list[n+1:]
	}

	return nil
}

// build calls Build in a goroutine of its own, so that a run whose Build hangs can be stopped.
func (r *Run) build(f func(context.Context) ([]Child, error)) ([]Child, error) {
	if f == nil {
		return nil, nil
	}

	b := &incarnation{name: "build", path: r.own.path, hub: r.hub, parent: r.own, policy: Abandon,
		startTimeout: Infinity, shutdown: DefaultShutdown}
	b.newContext(r.base, &r.above, time.Now())
	// The context of Build is the supervisor's, and is cancelled when the supervisor is told to
	// stop.
	ctx, cancel := context.WithCancelCause(context.WithValue(r.own.ctx(), buildKey{}, b))
	defer func() {
		if b.exit().Class != Normal {
			cancel(nil) // Build may have kept its context
		}
	}()

	var children []Child
	b.launch(func(context.Context) (Service, error) {
		var err error
		if children, err = f(ctx); err != nil {
			return nil, err
		}
		return ServiceFunc(func(context.Context) error { return nil }), nil
	})

	done := b.doneChan()
	select {
	case <-done:
	case <-r.own.life.Done():
		b.terminate(context.Cause(r.own.life))
		<-done

	case <-r.halt:
		b.terminate(ErrShutdown)
		if cancel(ErrShutdown); r.state == Starting {
			r.own.cancel(ErrShutdown)
		}
		<-done
	}

	switch {
	case b.exit().Orphaned:
		return nil, fmt.Errorf("Build of supervisor %s %w", r.own.subject(), ErrOrphan)

	case r.stopping() && r.state == Starting:
		return nil, r.stopError()

	case r.stopping():
		return nil, r.gone()

	case b.exit().Class == Normal:
		return children, nil

	case b.startFailure() == ErrIgnore:
		return nil, ErrIgnore

	default:
		return nil, fmt.Errorf("Build of supervisor %s: %w", r.own.subject(), b.exit().Err)
	}
}

// exited puts an exit in the mailbox, unless the run awaits it. By the time it is served, an exit
// of an incarnation that the run itself stopped or was starting is stale, and is ignored (OTP rule
// 59).
func (r *Run) exited(inc *incarnation) (awaited bool) {
	started := inc.isAcked // it does not change any more
	r.mu.Lock()
	awaited = r.row.cur == inc
	inc.handed = !awaited
	stops := r.row.stops
	r.mu.Unlock()

	if started && !(awaited && stops) {
		r.box.put(inc)
	}
	return awaited
}

// row is children that the run starts or stops one after the other (OTP rules 9, 13 and 62). The
// goroutine in which one of them acknowledges its start, or has ended, begins the next one itself,
// because to wake the run's goroutine for each would cost more than all the rest. That goroutine
// waits until the row is over, or until there is something to decide: a start that failed, an end
// that was not quiet, a stop of the run. Whoever has the turn, and nobody else, changes the
// records.
//
// An incarnation that has ended hands on once. If that was when no row awaited it, or when it was
// left to the run's goroutine, the incarnation is marked as handed, and a later row that has it to
// stop goes on with the run's goroutine.
type row struct {
	list     []*record
	at       int // of the next one to begin
	stops    bool
	explicit bool
	isLast   bool         // the run has nothing to do after it, and need not wake
	cur      *incarnation // whose acknowledgment or end is awaited; nil: the turn is the run's
}

// only returns a list of one record, for the next row.
func (r *Run) only(rec *record) []*record {
	r.single[0] = rec
	return r.single[:]
}

// startChild starts a child and waits for its acknowledgment. The error is ErrIgnore or a
// *StartError; the record is then not running.
func (r *Run) startChild(rec *record, explicit bool) (Ref, error) {
	if _, err := r.startRow(r.only(rec), explicit, false, time.Now()); err != nil {
		return Ref{}, err
	}
	return Ref{rec.inc}, nil
}

// startRow starts children in order, the first one now, each when the one before it has
// acknowledged. It returns how many have started. If those are not all, err is the ErrIgnore or the
// *StartError of the next one, which is not running, or nil if the run is to stop. With isLast, the
// run goes on to its next message after the row, and so it is woken by that and not by the end of
// the row.
func (r *Run) startRow(list []*record, explicit, isLast bool, now time.Time) (n int, err error) {
	r.mu.Lock()
	r.row = row{list: list, explicit: explicit, isLast: isLast}

	for {
		if n = r.row.at; n == len(list) || n > 0 && r.stopping() {
			r.row = row{}
			r.mu.Unlock()
			return n, nil
		}
		if n > 0 {
			now = time.Now()
		}
		inc := r.beginStart(now)
		r.hub.noteStarting(inc, now)
		start := inc.record.child.Start
		r.mu.Unlock()

		r.hub.changes.fire()
		inc.launch(start)

		if inc = r.takeTurn(); inc != nil {
			err = r.finishStart(inc, explicit)
		}

		r.mu.Lock()
		if err != nil {
			n = r.row.at - 1
			r.row = row{}
			r.mu.Unlock()
			return n, err
		}
	}
}

// beginStart gives the next child of the row an incarnation, which the caller launches. r.mu is
// held.
func (r *Run) beginStart(now time.Time) *incarnation {
	rec := r.row.list[r.row.at]
	r.row.at++

	inc := r.newChild(rec.id, rec.child)
	inc.newContext(r.base, &r.above, now)
	inc.record, inc.wake = rec, r.box.signal
	rec.inc, rec.state, rec.held = inc, Starting, nil
	r.row.cur = inc
	r.hub.touchKid(&r.core, rec.id)

	return inc
}

// beginStop marks the next child of the row that has an incarnation, which the caller stops, and
// those before it. It returns nil at the end of the row. r.mu is held.
func (r *Run) beginStop() *incarnation {
	for r.row.at < len(r.row.list) {
		rec := r.row.list[r.row.at]
		r.row.at++

		rec.attempts = 0
		if rec.timer != nil {
			rec.timer.Stop()
			rec.timer = nil // even if it has put its message
		}

		rec.state = NotRunning
		if rec.inc != nil {
			rec.state = Stopping
		}
		r.hub.touchKid(&r.core, rec.id)

		if rec.inc != nil {
			r.row.cur = rec.inc
			return rec.inc
		}
	}

	r.row.cur = nil
	return nil
}

// takeTurn waits until the turn comes to the run's goroutine. It returns the incarnation that has
// acknowledged its start or has ended without handing on, nil if the row is over. An incarnation
// that starts is told to end when the run is asked to stop.
func (r *Run) takeTurn() *incarnation {
	var told *incarnation
	for {
		r.mu.Lock()
		inc, stops := r.row.cur, r.row.stops
		if inc == nil || inc.settled(stops || told == inc) {
			r.row.cur = nil
			r.mu.Unlock()
			return inc
		}
		r.mu.Unlock()

		switch {
		case told == inc:
		case stops:
			told = inc
			inc.stop()
			continue
		case r.stopping():
			told = inc
			inc.terminate(ErrShutdown)
			continue
		}
		<-r.box.signal // a token for a message is not lost: receive takes before it waits
	}
}

// handOn begins the next child of the row after inc, which has acknowledged its start or has ended,
// if inc has the turn and there is nothing to decide. Otherwise it wakes the run's goroutine, if
// that waits for inc. It runs on the small stack of inc's goroutine.
func (r *Run) handOn(inc *incarnation) {
	r.mu.Lock()
	var next *incarnation
	var start StartFunc
	rests := false
	now := time.Now()

	switch {
	case r.row.cur != inc, r.row.stops && !inc.settled(true): // a late acknowledgment
		inc.handed = inc.settled(true)
		r.mu.Unlock()
		return

	case r.row.stops:
		next = r.handOnStop(inc, now)

	case r.mayHandOn(inc):
		if r.row.at < len(r.row.list) {
			next = r.beginStart(now)
			start = next.record.child.Start
		} else {
			r.row.cur = nil
			rests = r.restLocked()
		}
		r.hub.noteStarted(inc, r.row.explicit, next, now)

	default: // to decide; if inc has ended, nobody hands on after it any more
		inc.handed = inc.settled(true)
	}
	r.mu.Unlock()

	r.hub.changes.fire()

	switch {
	case rests:
	case next == nil:
		r.box.poke()
	case start == nil:
		next.terminate(ErrShutdown) // it is not brutal
	default:
		next.launch(start)
	}
}

// restLocked notes that the run has nothing to do, and reports whether that is so. A message that
// comes later wakes it. r.mu is held.
func (r *Run) restLocked() bool {
	if !r.row.isLast || !r.box.empty() {
		return false
	}
	r.busy = false
	return true
}

// mayHandOn notes that a child of the row has started, and reports whether there is nothing about
// it to decide. r.mu is held.
func (r *Run) mayHandOn(inc *incarnation) bool {
	rec := inc.record
	acked, kind := inc.made()
	if !acked || kind != Worker && rec.child.Kind == Worker && !rec.linted || r.stopping() {
		return false
	}
	r.noteStart(rec, kind)
	return true
}

// handOnStop returns nil if the run's goroutine is to go on. r.mu is held.
func (r *Run) handOnStop(inc *incarnation, now time.Time) (next *incarnation) {
	rec, exit := inc.record, inc.exit()
	isPlain := exit.Err == nil || isLeaf(exit.Err) // it has no orphan of a level below
	if exit.Orphaned || !isPlain || !quietStop(rec.child.Restart, rec.child.Shutdown, exit) {
		return nil
	}

	r.noteStop(rec, exit)
	r.hub.noteStopped(inc, now)
	if next = r.beginStop(); next == nil || next.handed || next.shutdown == Brutal {
		return nil // the run's goroutine stops a brutal one, so that no stack grows with the row
	}

	return next
}

// noteStart notes that a child has started. r.mu is held.
func (r *Run) noteStart(rec *record, kind Kind) {
	rec.state, rec.kind = Running, kind
	if rec.child.Restart == Temporary {
		rec.child.Start = nil // OTP rule 21
	}
	r.hub.touchKid(&r.core, rec.id)
}

// noteStop notes that a child was stopped. r.mu is held.
func (r *Run) noteStop(rec *record, exit *Exit) {
	rec.inc, rec.state, rec.lastExit = nil, NotRunning, exit
	r.hub.touchKid(&r.core, rec.id)
}

// finishStart notes what came of a start.
func (r *Run) finishStart(inc *incarnation, explicit bool) error {
	rec := inc.record

	if inc.started() {
		r.update(func() { r.noteStart(rec, inc.kindOf()) })
		r.hub.noteStarted(inc, explicit, nil, time.Now())

		if rec.kind != Worker && rec.child.Kind == Worker && !rec.linted {
			rec.linted = true
			for _, w := range lintSupervisor(*rec.child) {
				inc.emit(func(h Header) Event { return Warned{Header: h, Warning: w} })
			}
		}

		return nil
	}

	exit, err := inc.exit(), inc.startFailure()
	r.updateKid(rec.id, func() {
		rec.inc, rec.state = nil, NotRunning
		if err != ErrIgnore {
			x := *exit
			x.Err = err
			if x.Class == Normal {
				x.Class = Abnormal
			}
			rec.lastExit = &x
		}
	})

	if err == ErrIgnore {
		inc.emit(func(h Header) Event { return ChildIgnored{Header: h} })
		return ErrIgnore
	}

	inc.emit(func(h Header) Event { return ChildStartFailed{Header: h, Explicit: explicit, Err: err} })
	r.noteOrphan(rec, inc)

	return &StartError{Path: inc.path, ID: rec.id, Err: err}
}

// stopChild stops one child and waits for its end (OTP rules 56 to 60). The record is then not
// running.
func (r *Run) stopChild(rec *record) { r.stopRow(r.only(rec)) }

// stopRow stops children in order, each when the one before it has ended. It stops early if the run
// gives up.
func (r *Run) stopRow(list []*record) {
	r.mu.Lock()
	r.row = row{list: list, stops: true}
	r.mu.Unlock()

	for {
		r.mu.Lock()
		inc := r.beginStop()
		if inc == nil {
			r.row = row{}
		}
		r.mu.Unlock()

		r.hub.changes.fire()
		if inc == nil {
			return
		}

		if inc = r.takeTurn(); inc == nil {
			continue
		}
		r.finishStop(inc)

		if r.ending != nil && r.state == Running {
			r.mu.Lock()
			r.row = row{}
			r.mu.Unlock()
			return
		}
	}
}

// finishStop notes the end of a child that was stopped.
func (r *Run) finishStop(inc *incarnation) {
	rec, exit := inc.record, inc.exit()
	r.update(func() { r.noteStop(rec, exit) })
	r.hub.noteStopped(inc, time.Now())
	if !quietStop(rec.child.Restart, rec.child.Shutdown, exit) {
		inc.emit(func(h Header) Event { return ShutdownError{Header: h, Exit: *exit, Count: 1} })
	}

	r.noteOrphan(rec, inc)
	if r.state == Stopping && r.orphan == nil {
		r.orphan = exit.orphanBelow() // the error of a stop names it, however deep it is
	}
}

// noteOrphan executes the policy Escalate: the run ends at once, whatever its limit.
func (r *Run) noteOrphan(rec *record, inc *incarnation) {
	if !inc.exit().Orphaned || rec.child.Orphan != Escalate {
		return
	}

	if r.orphan == nil {
		r.orphan = r.giveUpError(inc.path, ErrOrphan, *inc.exit())
	}

	if r.state == Running && !r.stopping() {
		r.giveUp(r.orphan)
	}
}

// stopAll stops the children in reverse start order (OTP rule 62).
func (r *Run) stopAll() {
	list := slices.Clone(r.records)
	slices.Reverse(list)
	r.stopRow(list)
}

// add appends a specification. r.mu is held.
func (r *Run) add(rec *record) {
	r.records = append(r.records, rec)
	r.byID[rec.id] = rec
}

// remove forgets a specification.
func (r *Run) remove(rec *record) {
	r.updateKid(rec.id, func() {
		if i := slices.Index(r.records, rec); i >= 0 {
			r.records = slices.Delete(r.records, i, i+1)
			delete(r.byID, rec.id)
		}
	})
}
