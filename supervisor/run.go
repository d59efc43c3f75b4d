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
		r.update(func() { r.state = Running })
		r.emit(func(h Header) Event {
			return SupervisorStarted{Header: h, Kind: SupervisorKind, Strategy: r.spec.Strategy,
				Intensity: r.intensity}
		})
		close(r.up)
		r.own.acknowledge()
		err = r.loop()
	}

	r.update(func() { r.state = Stopping })
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

	r.update(func() {
		for _, c := range children {
			r.add(newRecord(c))
		}
	})

	for _, rec := range slices.Clone(r.records) {
		if r.stopping() {
			return r.stopError()
		}
		if _, err := r.startChild(rec, false); err != nil && err != ErrIgnore {
			if r.stopping() {
				return r.stopError()
			}
			return err
		} else if err != nil && rec.child.Restart == Temporary {
			r.remove(rec)
		}
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
	b.newContext(r.base)
	// The context of Build is the supervisor's, and is cancelled when the supervisor is told to
	// stop.
	ctx, cancel := context.WithCancelCause(context.WithValue(r.own.ctx, buildKey{}, b))
	defer func() {
		if b.exit.Class != Normal {
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

	select {
	case <-b.done:
	case <-r.own.ctx.Done():
		b.terminate(context.Cause(r.own.ctx))
		<-b.done

	case <-r.halt:
		b.terminate(ErrShutdown)
		if cancel(ErrShutdown); r.state == Starting {
			r.own.cancel(ErrShutdown)
		}
		<-b.done
	}

	switch {
	case b.exit.Orphaned:
		return nil, fmt.Errorf("Build of supervisor %s %w", r.own.subject(), ErrOrphan)

	case r.stopping() && r.state == Starting:
		return nil, r.stopError()

	case r.stopping():
		return nil, r.gone()

	case b.exit.Class == Normal:
		return children, nil

	case b.startFailure() == ErrIgnore:
		return nil, ErrIgnore

	default:
		return nil, fmt.Errorf("Build of supervisor %s: %w", r.own.subject(), b.exit.Err)
	}
}

// exited puts an exit in the mailbox. By the time it is served, an exit of an incarnation that the
// run itself stopped or was starting is stale, and is ignored (OTP rule 59).
func (r *Run) exited(inc *incarnation) {
	if inc.started() {
		r.box.put(notice(func() { r.handleExit(inc) }))
	}
}

// startChild starts a child and waits for its acknowledgment. The error is ErrIgnore or a
// *StartError; the record is then not running.
func (r *Run) startChild(rec *record, explicit bool) (Ref, error) {
	c := *rec.child
	inc := r.newChild(rec.id, &c)
	inc.record, rec.held = rec, nil
	r.update(func() { rec.inc, rec.state = inc, Starting })
	inc.emit(func(h Header) Event { return ChildStarting{Header: h} })
	inc.launch(c.Start)

	select {
	case <-inc.acked:
	case <-inc.done:
	case <-r.own.ctx.Done():
		inc.terminate(ErrShutdown)
		<-inc.done
	case <-r.halt:
		inc.terminate(ErrShutdown)
		<-inc.done
	}

	if inc.started() {
		r.update(func() {
			rec.state, rec.kind = Running, inc.kindOf()
			if c.Restart == Temporary {
				rec.child.Start = nil // OTP rule 21
			}
		})

		inc.emit(func(h Header) Event {
			return ChildStarted{Header: h, Explicit: explicit, Took: time.Since(inc.began)}
		})

		if rec.kind != Worker && c.Kind == Worker && !rec.linted {
			rec.linted = true
			for _, w := range lintSupervisor(c) {
				inc.emit(func(h Header) Event { return Warned{Header: h, Warning: w} })
			}
		}

		return Ref{inc}, nil
	}

	exit, err := inc.exit, inc.startFailure()
	r.update(func() {
		rec.inc, rec.state = nil, NotRunning
		if err != ErrIgnore {
			x := exit
			x.Err = err
			if x.Class == Normal {
				x.Class = Abnormal
			}
			rec.lastExit = &x
		}
	})

	if err == ErrIgnore {
		inc.emit(func(h Header) Event { return ChildIgnored{Header: h} })
		return Ref{}, ErrIgnore
	}

	inc.emit(func(h Header) Event { return ChildStartFailed{Header: h, Explicit: explicit, Err: err} })
	r.noteOrphan(rec, inc)

	return Ref{}, &StartError{Path: inc.path, ID: c.ID, Err: err}
}

// stopChild stops one child and waits for its end (OTP rules 56 to 60). The record is then not
// running.
func (r *Run) stopChild(rec *record) {
	inc := rec.inc
	r.update(func() {
		rec.attempts = 0
		if rec.timer != nil {
			rec.timer.Stop()
			rec.timer = nil // even if it has put its message
		}

		if inc == nil {
			rec.state = NotRunning
		} else {
			rec.state = Stopping
		}
	})

	if inc == nil {
		return
	}

	inc.stop()
	<-inc.done
	exit := inc.exit
	r.update(func() { rec.inc, rec.state, rec.lastExit = nil, NotRunning, &exit })
	inc.emit(func(h Header) Event { return ChildStopped{Header: h, Exit: exit} })
	if !quietStop(rec.child.Restart, rec.child.Shutdown, exit) {
		inc.emit(func(h Header) Event { return ShutdownError{Header: h, Exit: exit, Count: 1} })
	}

	r.noteOrphan(rec, inc)
	if r.state == Stopping && r.orphan == nil {
		r.orphan = exit.orphanBelow() // the error of a stop names it, however deep it is
	}
}

// noteOrphan executes the policy Escalate: the run ends at once, whatever its limit.
func (r *Run) noteOrphan(rec *record, inc *incarnation) {
	if !inc.exit.Orphaned || rec.child.Orphan != Escalate {
		return
	}

	if r.orphan == nil {
		r.orphan = r.giveUpError(inc.path, ErrOrphan, inc.exit)
	}

	if r.state == Running && !r.stopping() {
		r.giveUp(r.orphan)
	}
}

// stopAll stops the children in reverse start order (OTP rule 62).
func (r *Run) stopAll() {
	for i := len(r.records) - 1; i >= 0; i-- {
		r.stopChild(r.records[i])
	}
}

// add appends a specification. r.mu is held.
func (r *Run) add(rec *record) {
	r.records = append(r.records, rec)
	r.byID[rec.id] = rec
}

// remove forgets a specification.
func (r *Run) remove(rec *record) {
	r.update(func() {
		if i := slices.Index(r.records, rec); i >= 0 {
			r.records = slices.Delete(r.records, i, i+1)
			delete(r.byID, rec.id)
		}
	})
}
