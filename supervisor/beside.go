package supervisor

import "context"

// Recycle stops the child of sup with this ID and starts it again, as TerminateChild and
// RestartChild do. It is management, so it counts against no limit (OTP rules 24, 26 and 44). A
// child that does not run is started. Unlike those two methods, it may be called below sup with the
// caller's own context, for instance by a watchdog that finds its sibling hanging. See Revive for
// what such a caller must know.
func Recycle(ctx context.Context, sup *Supervisor, id string) error {
	return beside(ctx, sup, id, func(ctx context.Context, r *Run) error {
		if err := r.TerminateChild(ctx, id); err != nil {
			return err
		}
		return r.revive(ctx, id)
	})
}

// Revive starts the child of sup with this ID, as RestartChild does. It is no error if the child
// runs, or is between two attempts to restart it. Like Recycle, it may be called below sup with the
// caller's own context.
//
// A caller that waits for its supervisor must stop waiting when the supervisor waits for the
// caller. Before a supervisor waits for a child's end, it ends the child's context, which ends the
// call; the work that the call had begun continues. So a Recycle may end between the stop and the
// start, and a caller that is itself restarted must begin each of its lives with a Revive. Where a
// supervisor waits and the context would not end, the error is ErrWouldDeadlock: for a caller whose
// own start is not acknowledged yet, and for a caller that is the named child or below it.
//
// The error is the cause of ctx if ctx has ended, and otherwise as for TerminateChild or
// RestartChild. The caller need not be below sup.
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

// beside makes management calls about a child for a caller that may be below the same supervisor.
// Management calls refuse every context that they recognize as one of a caller below. So beside
// makes them with a context that ends when ctx does, but belongs to no child.
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
