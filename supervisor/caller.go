package supervisor

import "context"

// A management call is served in the run's goroutine. That goroutine also waits for the children:
// for the acknowledgment of a start, and for the end of a stop. A caller that it waits for would
// wait for itself. Every other caller below the run is served like a caller from outside.

// buildKey is the context key under which the context of Build has the incarnation that runs it.
type buildKey struct{}

// childOf returns the child of this run that ctx belongs to or is below, nil if there is none.
func (s *scope) childOf(ctx context.Context) *incarnation {
	for inc := incarnationOf(ctx); inc != nil; inc = inc.parent {
		if inc.owner != nil && inc.owner == s.kids {
			return inc
		}
	}
	return nil
}

// enter admits a management call with ctx. It refuses a caller whose start the run waits for.
// Otherwise it returns the context of the call. That ends when ctx does. It also ends, with
// ErrWouldDeadlock as its cause, when the run waits for the end of a caller whose ctx does not end
// then. The caller must call leave when the call is over.
func (s *scope) enter(ctx context.Context) (call context.Context, leave func(), err error) {
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}

	build, _ := ctx.Value(buildKey{}).(*incarnation)
	if build != nil && build.parent == s.own && (Ref{build}).Alive() {
		return nil, nil, ErrWouldDeadlock
	}

	child := s.childOf(ctx)
	if child == nil {
		return ctx, func() {}, nil
	}
	if s.waitsForStart(ctx, child) {
		return nil, nil, ErrWouldDeadlock
	}

	call, cancel := context.WithCancelCause(ctx)
	// The supervisors between the run and the caller stop their children in order, so the caller
	// may still have time.
	forget := context.AfterFunc(child.told(), func() {
		context.AfterFunc(incarnationOf(ctx).told(), func() { cancel(ErrWouldDeadlock) })
	})

	return call, func() { forget(); cancel(nil) }, nil
}

// waitsForStart reports whether the acknowledgment of child's start needs that of the caller. It
// does not if the caller has started, or a supervisor between the two: the rest of child's start
// goes on without the caller.
func (s *scope) waitsForStart(ctx context.Context, child *incarnation) bool {
	for inc := incarnationOf(ctx); inc != child; inc = inc.parent {
		if inc.started() {
			return false
		}
	}
	return !child.started()
}

// deadlocks reports whether ctx belongs to a child of this run, to one below, or to the run's own
// Build, so that the end of the run waits for the caller.
func (s *scope) deadlocks(ctx context.Context) bool {
	for inc := incarnationOf(ctx); inc != nil; inc = inc.parent {
		if inc == s.own || (inc.owner != nil && inc.owner == s.kids) {
			return true
		}
	}
	return false
}

// told returns a context that ends when the incarnation has been told to end by its supervisor.
func (inc *incarnation) told() context.Context {
	inc.mu.Lock()
	defer inc.mu.Unlock()

	if inc.toldCtx == nil {
		inc.toldCtx, inc.tellWaiters = context.WithCancel(context.Background())
	}
	if inc.stopped {
		inc.tellWaiters()
	}

	return inc.toldCtx
}

// toldLocked ends what told returned. The context of the incarnation has ended before, so that a
// call with that context ends with its cause.
func (inc *incarnation) toldLocked() {
	if inc.tellWaiters != nil {
		inc.tellWaiters()
	}
}
