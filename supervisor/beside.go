package supervisor

import "context"

// Recycle stops the child of sup with this ID and starts it again, as TerminateChild and
// RestartChild do: it is management, and counts against no limit (OTP rules 24, 26 and 44). A child
// that does not run is started. Unlike those two it may be called by what runs below sup, with its
// own context: by a watchdog that finds its sibling hanging, for instance. See Revive for what that
// caller must know.
func Recycle(ctx context.Context, sup *Supervisor, id string) error {
	return beside(ctx, sup, id, func(ctx context.Context, r *Run) error {
		if err := r.TerminateChild(ctx, id); err != nil {
			return err
		}
		return r.revive(ctx, id)
	})
}

// Revive starts the child of sup with this ID, as RestartChild does, but it is no error if that
// runs or is between two attempts to restart it. As Recycle, it may be called by what runs below
// sup, with its own context.
//
// The rule for that: who waits for its supervisor must stop waiting when that waits for it. Before
// a supervisor waits for a child's end it ends the child's context, which ends the call; what the
// call had begun goes on without it. So a Recycle may come to its end between the stop and the
// start, and a caller that is itself restarted begins each of its lives with a Revive. Where a
// supervisor waits and the context would not end, the answer is ErrWouldDeadlock: to a caller whose
// own start is not acknowledged yet, and to one that is the child that it names, or below that.
//
// The error is the cause of ctx when that has ended, and otherwise as TerminateChild's or
// RestartChild's. A caller that is not below sup is welcome too.
func Revive(ctx context.Context, sup *Supervisor, id string) error {
	return beside(ctx, sup, id, func(ctx context.Context, r *Run) error { return r.revive(ctx, id) })
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

// beside makes management calls about a child for a caller that may be below the same supervisor:
// with a context that ends when ctx does and belongs to nobody, because those calls refuse
// everybody who they can tell is below.
func beside(ctx context.Context, sup *Supervisor, id string, calls func(context.Context, *Run) error) error {
	r, err := sup.current()
	if err != nil {
		return err
	}

	caller := incarnationOf(ctx)
	for inc := caller; inc != nil; inc = inc.parent {
		if inc.owner == r.kids && inc.name == id {
			return ErrWouldDeadlock
		}
	}

	if r.deadlocks(ctx) && !caller.started() {
		return ErrWouldDeadlock
	}

	outside, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })()

	if err := calls(outside, r); err == nil || ctx.Err() == nil {
		return err
	}

	return context.Cause(ctx)
}
