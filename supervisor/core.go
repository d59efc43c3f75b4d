package supervisor

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// core is the part of a run that a Supervisor and a Dynamic share: the mailbox and the loop that
// serves it, the restart limit, the listings of the children, and the end.
type core struct {
	*scope
	box *mailbox

	mu        sync.Mutex // guards the fields down to the next blank line, and the slots
	state     State
	busy      bool // a message is being served
	intensity Intensity
	window    window
	orphan    *GiveUpError // the first orphan that must be escalated, or that a stop has met

	unwatch func() bool // ends the wake-up by the end of own's context
	ending  error       // set in the run's goroutine when the run is to end by itself
}

// roster is the children of one run, which a Supervisor and a Dynamic keep differently. core.mu is
// held in calls of all its methods except exited.
type roster interface {
	owner
	// all returns the children, in start order if there is one.
	all() []kid
	// byName returns the child with that ID, nil if there is none.
	byName(id string) kid
	// draw adds to t what this kind of supervisor shows of itself, and returns the children that t
	// is to list, none unless deep is set.
	draw(t *Tree, deep bool) []kid
}

// kid is one child: a *record or an *instance.
type kid interface {
	common() *slot
	kindOf() Kind
	status() State
}

// slot is what a run knows of each child. core.mu guards it.
type slot struct {
	id       string
	child    *Child       // the specification in force; an instance's is its Dynamic's template
	inc      *incarnation // nil without one
	restarts uint64
	attempts int // restart attempts in a row
	lastExit *Exit
	timer    *time.Timer // of the pending delayed attempt, nil if there is none
}

func (s *slot) common() *slot { return s }

// join makes the run's mailbox and its scope, which is its place in the tree that ctx belongs to.
// self is the Supervisor or Dynamic that runs.
func (r *core) join(ctx context.Context, name string, self any, kids roster, observers []Observer) (err error) {
	r.box = newMailbox()
	if r.scope, err = newScope(ctx, name, self, kids, observers); err == nil {
		r.wake = r.box.poke
		r.unwatch = context.AfterFunc(r.own.life, r.wake)
		r.own.attach(r)
	}
	return err
}

// update calls f under the lock, to change fields that other goroutines read.
func (r *core) update(f func()) {
	r.mu.Lock()
	f()
	r.mu.Unlock()
	r.hub.changes.fire()
}

// updateKid is update for a change of the child with that ID, which Watches then look at.
func (r *core) updateKid(id string, f func()) {
	r.update(f)
	r.hub.touchKid(r, id)
}

// updateOwn is update for a change of what the supervisor shows of itself.
func (r *core) updateOwn(f func()) {
	r.update(f)
	r.hub.touch(r.own.path, false)
}

// updateKids is update for a change of the list of children.
func (r *core) updateKids(f func()) {
	r.update(f)
	r.hub.touch(r.own.path, true)
}

func (r *core) gone() error { return fmt.Errorf("supervisor %s %w", r.own.subject(), ErrNotRunning) }

// loop serves messages until the run ends by itself or is asked to stop. It returns the error with
// which the run ends.
func (r *core) loop() error {
	for r.ending == nil {
		m, ok := r.receive()
		if !ok {
			return r.stopError()
		}
		m.serve()
	}
	return r.ending
}

// receive returns the next message; ok is false when the run was asked to stop.
func (r *core) receive() (m message, ok bool) {
	for {
		stop := r.stopping()
		r.mu.Lock()
		if ok = false; !stop {
			m, ok = r.box.take()
		}
		changed := r.busy != ok
		r.busy = ok
		r.mu.Unlock()
		if changed {
			r.hub.changes.fire()
		}

		if stop || ok {
			return m, ok
		}
		<-r.box.signal // the end of own's context and requestHalt send it too
	}
}

// end ends the run with err, after its children have been stopped. It calls over before done is
// closed.
func (r *core) end(err error, over func()) {
	r.unwatch()
	for _, m := range r.box.close() {
		m.refuse()
	}

	r.updateKids(func() { r.state, err = NotRunning, withOrphan(err, r.orphan) })
	r.finish(err)
	over()
	r.ended()
}

// attempt counts one attempt to restart a child (OTP rule 39) and announces it. If the limit does
// not allow the attempt, tooMany is the error with which the supervisor gives up. path is the
// child's. r.mu is held.
func (r *core) attempt(s *slot, path string, now time.Time) (delay time.Duration, tooMany *GiveUpError) {
	r.hub.touch(path, false)
	r.hub.touch(r.own.path, false)
	n, ok := r.window.add(now, r.intensity)
	if !ok {
		tooMany = r.giveUpError(path, ErrMaxIntensity, *s.lastExit)
		tooMany.Attempts = n
		return 0, tooMany
	}

	s.attempts++
	s.restarts++
	delay = s.child.Backoff.delay(s.attempts, rand.Float64())
	r.hub.noteScheduled(path, s.attempts, n, delay, now)

	return delay, nil
}

// postpone makes the run's goroutine call perform after the delay, unless the timer in the slot has
// been replaced or removed by then. r.mu is held.
func (r *core) postpone(s *slot, delay time.Duration, perform func()) {
	var timer *time.Timer
	m := notice(func() {
		if s.timer == timer {
			r.update(func() { s.timer = nil })
			perform()
		}
	})
	timer = time.AfterFunc(delay, func() { r.box.put(m) })
	s.timer = timer
}

func (r *core) giveUpError(offender string, cause error, exit Exit) *GiveUpError {
	return &GiveUpError{Supervisor: r.own.path, Offender: offender, Cause: cause, Exit: exit, Intensity: r.intensity}
}

// giveUp ends the run with e. It is called in the run's goroutine.
func (r *core) giveUp(e *GiveUpError) {
	if r.ending == nil {
		r.ending = e
		r.emit(func(h Header) Event { return GaveUp{Header: h, Err: e} })
	}
}
