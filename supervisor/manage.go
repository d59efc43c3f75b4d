package supervisor

import (
	"context"
	"errors"
	"fmt"
)

// StartChild adds a child at the end of the start order and starts it (OTP rules 22 and 23). For an
// ID that runs it returns an *AlreadyStartedError, and for one that is specified but does not run
// ErrAlreadyPresent. If the start returns ErrIgnore, StartChild returns the zero Ref, and the
// specification stays unless it is temporary. If the start fails, it returns a *StartError, and
// nothing stays. A child added this way is gone when the supervisor itself is restarted, because
// Build is the truth (rule 32).
//
// Like every management call, it waits for its turn. If ctx ends while the start is under way, the
// start continues. Children of r, and callers below them, may call it as others do. It returns
// ErrWouldDeadlock to those that r itself waits for: a caller whose start is not acknowledged yet,
// a Build of r, and a caller that r stops.
func (r *Run) StartChild(ctx context.Context, c Child) (Ref, error) {
	return r.do(ctx, func() (Ref, error) { return r.addChild(c) })
}

func (r *Run) addChild(c Child) (Ref, error) {
	if err := c.check(r.spec.AutoShutdown); err != nil {
		return Ref{}, err
	}

	if rec := r.lookup(c.ID); rec != nil {
		if rec.inc != nil {
			return Ref{}, &AlreadyStartedError{Ref: Ref{rec.inc}}
		}
		return Ref{}, fmt.Errorf("%q: %w", c.ID, ErrAlreadyPresent)
	}

	rec := newRecord(c)
	r.updateKids(func() { r.add(rec) })

	ref, err := r.startChild(rec, true)
	switch {
	case err == ErrIgnore:
		if c.Restart == Temporary {
			r.remove(rec)
		}
		return Ref{}, nil
	case err != nil:
		r.remove(rec)
		return Ref{}, passThrough(err)
	}

	return ref, nil
}

// passThrough returns a start's own "already started" error unwrapped (OTP rule 22).
func passThrough(err error) error {
	var already *AlreadyStartedError
	if errors.As(err, &already) {
		return already
	}
	return err
}

// RestartChild starts a child that is specified and does not run (OTP rule 26). Otherwise it
// returns ErrRunning, ErrRestarting or ErrNotFound.
func (r *Run) RestartChild(ctx context.Context, id string) (Ref, error) {
	return r.do(ctx, func() (Ref, error) { return r.restartChild(id) })
}

func (r *Run) restartChild(id string) (Ref, error) {
	rec, err := r.idle(id)
	if err != nil {
		return Ref{}, err
	}
	ref, err := r.startChild(rec, true)
	if err == ErrIgnore {
		return Ref{}, nil
	}

	return ref, passThrough(err)
}

// idle returns the record of a child that does not run. If the child runs, is between two attempts
// to restart it, or is not specified, it returns an error.
func (r *Run) idle(id string) (*record, error) {
	rec := r.lookup(id)
	switch {
	case rec == nil:
		return nil, fmt.Errorf("%q: %w", id, ErrNotFound)
	case rec.state == Restarting:
		return nil, fmt.Errorf("%q %w", id, ErrRestarting)
	case rec.inc != nil:
		return nil, fmt.Errorf("%q %w", id, ErrRunning)
	}

	return rec, nil
}

// TerminateChild stops a child and waits for its end (OTP rule 24). The specification stays, unless
// it is temporary. A pending retry will not happen. If the retry was delayed by Backoff, the
// children of its group that were stopped for it are started now. TerminateChild counts against no
// limit, touches no other child, and returns nil if the child does not run. A caller that is the
// child, or below it, would wait for its own end: it gets ErrWouldDeadlock.
func (r *Run) TerminateChild(ctx context.Context, id string) error {
	caller := r.childOf(ctx)
	_, err := r.do(ctx, func() (Ref, error) { return Ref{}, r.terminateChild(id, caller) })
	return err
}

// terminateChild stops a child for a call from the child caller, or from below it. A nil caller is
// none of the run's children.
func (r *Run) terminateChild(id string, caller *incarnation) error {
	rec := r.lookup(id)
	if rec == nil {
		return fmt.Errorf("%q: %w", id, ErrNotFound)
	}

	inc := rec.inc
	if inc != nil && inc == caller {
		return fmt.Errorf("stop of %q: %w", id, ErrWouldDeadlock)
	}

	r.stopChild(rec)
	r.letGo(rec)
	if rec.child.Restart == Temporary {
		r.remove(rec)
	}
	if inc != nil && inc.exit().Orphaned {
		return fmt.Errorf("%q %w", id, ErrOrphan)
	}

	return nil
}

// DeleteChild forgets a child that does not run (OTP rule 27). Otherwise it returns ErrRunning,
// ErrRestarting or ErrNotFound.
func (r *Run) DeleteChild(ctx context.Context, id string) error {
	_, err := r.do(ctx, func() (Ref, error) {
		rec, err := r.idle(id)
		if err == nil {
			r.remove(rec)
		}
		return Ref{}, err
	})
	return err
}

// Reload puts a new specification in force (OTP rule 81), for this run and for later ones of the
// same Supervisor. Flags and specifications are replaced by ID. A running child is kept, under its
// new specification; the parts that concern its start take effect at the next start. A child that
// the new list lacks is kept: it comes after the children of the new list, in its old order. A
// child that is new in the list is added and not started. If anything in spec is invalid, nothing
// changes. The observers stay those of the run.
func (r *Run) Reload(ctx context.Context, spec Spec) error {
	_, err := r.do(ctx, func() (Ref, error) { return Ref{}, r.reload(spec) })
	return err
}

func (r *Run) reload(spec Spec) error {
	if err := checkSpec(&spec); err != nil {
		return err
	}

	old := r.spec
	children, err := r.build(spec.Build)
	if err == ErrIgnore {
		return nil
	}
	if err != nil {
		return err
	}
	if err := CheckChildren(children, spec.AutoShutdown); err != nil {
		return err
	}

	spec.Observers = old.Observers
	r.sup.spec.Store(&spec)
	var given []*incarnation
	r.updateKids(func() {
		r.spec, r.intensity = spec, spec.Intensity
		var records []*record
		listed := make(map[string]bool, len(children))

		for _, c := range children {
			listed[c.ID] = true
			rec := r.lookup(c.ID)
			if rec == nil {
				rec = newRecord(c)
			}

			rec.child = &c
			if rec.inc != nil && rec.inc.respecify(c) {
				given = append(given, rec.inc)
			}
			if c.Restart == Temporary && rec.inc != nil {
				rec.child.Start = nil
			}

			records = append(records, rec)
		}

		for _, rec := range r.records {
			if !listed[rec.id] {
				records = append(records, rec)
			}
		}

		r.records = records
		for _, rec := range records {
			r.byID[rec.id] = rec
		}
	})
	r.emit(func(h Header) Event { return Reloaded{Header: h} })
	for _, inc := range given {
		inc.conclude(true)
	}

	return nil
}

// lookup returns the record of an ID, nil if it is not specified.
func (r *Run) lookup(id string) *record { return r.byID[id] }

func (r *Run) byName(id string) kid {
	if rec := r.lookup(id); rec != nil {
		return rec
	}
	return nil
}

func (r *Run) all() []kid {
	out := make([]kid, len(r.records))
	for i, rec := range r.records {
		out[i] = rec
	}
	return out
}

func (r *Run) draw(t *Tree, deep bool) []kid {
	t.Kind, t.Strategy, t.AutoShutdown = SupervisorKind, r.spec.Strategy, r.spec.AutoShutdown
	if !deep {
		return nil
	}
	return r.all()
}

// ChildSpec returns a child's specification with the defaults filled in (OTP rule 31), or
// ErrNotFound. The Start of a temporary child is nil once it has started (rule 21). ChildSpec does
// not wait.
func (r *Run) ChildSpec(id string) (c Child, err error) {
	err = r.withChild(id, func(k kid) {
		rec := k.(*record)
		c = rec.child.withDefaults(rec.kindOf(), rec.kind)
	})
	return c, err
}

// withDefaults returns c with its zero values replaced by the defaults. k is the child's kind: of
// what Start made, or the declared kind before that. made is only the kind of what Start made.
func (c Child) withDefaults(k, made Kind) Child {
	stop, start := DefaultShutdown, DefaultStartTimeout
	if k != Worker {
		stop = Infinity
	}
	if made != Worker {
		start, c.Ack = Infinity, AckReady
	}
	if c.Shutdown == 0 {
		c.Shutdown = stop
	}
	if c.StartTimeout == 0 {
		c.StartTimeout = start
	}

	return c
}

// Recycle stops the child of sup with this ID and starts it again, as TerminateChild and
// RestartChild do. If the child does not run, Recycle starts it. These are management calls, so
// they count against no restart limit (OTP rules 24, 26 and 44). A watchdog below sup may call
// Recycle for a sibling that hangs. See Revive for what such a caller must know. A caller that is
// the child, or below it, gets ErrWouldDeadlock.
func Recycle(ctx context.Context, sup *Supervisor, id string) error {
	r, err := sup.current()
	if err != nil {
		return err
	}

	if err = r.TerminateChild(ctx, id); err == nil {
		err = r.revive(ctx, id)
	}
	return causeOr(ctx, err)
}

// Revive starts the child of sup with this ID, as RestartChild does. If the child runs, or is
// between two attempts to restart it, Revive does nothing and returns nil.
//
// A call ends when the caller is told to end; the work that the call had begun continues. So a
// Recycle may end between the stop and the start, and a caller that is itself restarted must begin
// each of its lives with a Revive.
//
// If ctx has ended, the error is its cause. Otherwise it is one that TerminateChild or RestartChild
// returns.
func Revive(ctx context.Context, sup *Supervisor, id string) error {
	r, err := sup.current()
	if err != nil {
		return err
	}
	return causeOr(ctx, r.revive(ctx, id))
}

func (r *Run) revive(ctx context.Context, id string) error {
	_, err := r.do(ctx, func() (Ref, error) {
		if rec := r.lookup(id); rec != nil && (rec.inc != nil || rec.state == Restarting) {
			return Ref{}, nil
		}
		return r.restartChild(id)
	})
	return err
}

// causeOr returns err, or the cause of ctx if there is an error and ctx has ended.
func causeOr(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
