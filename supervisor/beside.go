package supervisor

import "context"

// Recycle stops the child of sup with this ID and starts it again, as TerminateChild and
// RestartChild do. If the child does not run, Recycle starts it. These are management calls, so
// they count against no restart limit (OTP rules 24, 26 and 44). Unlike those two methods, Recycle
// may be called below sup with the caller's own context, for instance by a watchdog that finds its
// sibling hanging. See Revive for what such a caller must know.
func Recycle(ctx context.Context, sup *Supervisor, id string) error {
	return beside(ctx, sup, id, func(ctx context.Context, r *Run) error {
		if err := r.TerminateChild(ctx, id); err != nil {
			return err
		}
		return r.revive(ctx, id)
	})
}

// Revive starts the child of sup with this ID, as RestartChild does. If the child runs, or is
// between two attempts to restart it, Revive does nothing and returns nil. Like Recycle, it may be
// called below sup with the caller's own context. The caller need not be below sup.
//
// A caller below sup does not deadlock with its supervisor. Before a supervisor waits for a child's
// end, it cancels the child's context, and that ends the child's call; the work that the call had
// begun continues. So a Recycle may end between the stop and the start, and a caller that is itself
// restarted must begin each of its lives with a Revive. Two kinds of callers would wait for ever,
// because no supervisor cancels their context meanwhile, and get ErrWouldDeadlock: a caller whose
// own start is not acknowledged yet, and a caller that is the named child or below it.
//
// If ctx has ended, the error is its cause. Otherwise it is one that TerminateChild or RestartChild
// returns.
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

// beside runs calls, which makes management calls about the child of sup with this ID, and returns
// its error. The caller may be below sup. A management call refuses the context of every child
// below its supervisor, so calls gets a context that belongs to no child and ends when ctx does.
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
