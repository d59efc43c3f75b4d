package supervisor

import "context"

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
