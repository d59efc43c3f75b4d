package supervisor

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/thejerf/suture/v4"
)

// Class sorts exits as OTP does (rule 35).
type Class uint8

const (
	// Normal: Serve returned nil.
	Normal Class = iota
	// Shutdown: an orderly end with a reason, or the end the supervisor asked for.
	Shutdown
	// Abnormal: everything else.
	Abnormal
)

func (c Class) String() string { return name("Class", int(c), "normal", "shutdown", "abnormal") }

// Exit describes how an incarnation ended.
type Exit struct {
	Class Class
	// Err is the error that Serve (or a goroutine started with Go) returned, nil if it returned
	// nil. A panic is a *PanicError.
	Err error
	// Panic and Stack are the value and the stack of a panic.
	Panic any
	Stack Stack
	// Goexit: the goroutine ended by runtime.Goexit.
	Goexit bool
	// Killed: Kill ended it.
	Killed bool
	// Orphaned: the incarnation had not ended within its shutdown time, and may still run.
	Orphaned bool
	// Stopped: the supervisor had told it to end before it ended.
	Stopped bool
	// Duration is the time from the beginning of the start to the end.
	Duration time.Duration

	remove    bool // suture.ErrDoNotRestart
	terminate bool // suture.ErrTerminateSupervisorTree
}

// Error returns the exit as an error, nil for the class Normal.
func (e Exit) Error() error {
	if e.Class == Normal {
		return nil
	}
	if e.Err != nil {
		return e.Err
	}
	return ErrShutdown
}

// String returns the reason in words.
func (e Exit) String() string {
	if e.Class == Normal {
		return "normal"
	}
	if e.Err == nil {
		return e.Class.String()
	}
	if e.Class == Shutdown && e.Stopped {
		return "stopped"
	}
	return fmt.Sprintf("%v", e.Err)
}

// orphanBelow returns the GiveUpError in the exit if an orphan made a supervisor give up: the child
// itself or a supervisor below it. Otherwise it returns nil.
func (e Exit) orphanBelow() *GiveUpError {
	var g *GiveUpError
	if errors.As(e.Err, &g) && g.Cause == ErrOrphan {
		return g
	}
	return nil
}

// ending is how a goroutine of an incarnation ended, before it is classified.
type ending struct {
	err    error
	panic  *PanicError
	goexit bool
}

func (e *ending) cause() error {
	switch {
	case e.panic != nil:
		return e.panic
	case e.goexit:
		return ErrGoexit
	default:
		return e.err
	}
}

// circumstances is what the class of an ending depends on, besides the ending itself.
type circumstances struct {
	stopped bool  // the supervisor had told it to end
	cause   error // of the incarnation's context, nil while that is live
}

// classify sets x to the Exit of an ending, by the table "Exit classes" in docs/otp-rules.md.
// killed is the reason that Kill was called with, nil if it was not.
func classify(e *ending, c *circumstances, killed error, x *Exit) {
	*x = Exit{Class: Abnormal, Err: e.cause(), Stopped: c.stopped, Goexit: e.goexit}

	switch {
	case killed != nil:
		x.Killed = true
		classifyKilled(e, killed, x)
	case e.panic != nil || e.goexit:
	case e.err == nil:
		x.Class = Normal
	default:
		classifyError(e, c, x, marksOf(e.err))
	}

	if e.panic != nil {
		x.Panic, x.Stack = e.panic.Value, e.panic.Stack
	}
}

func classifyKilled(e *ending, killed error, x *Exit) {
	if e.panic == nil && !e.goexit {
		x.Err = killed
	} else {
		x.Err = fmt.Errorf("%w; then %w", killed, x.Err)
	}
}

func classifyError(e *ending, c *circumstances, x *Exit, m marks) {
	ofContext := m&(markCanceled|markDeadline) != 0
	switch {
	case m&markTerminate != 0:
		x.Class, x.terminate = Shutdown, true

	case m&markRemove != 0:
		x.Class, x.remove = Shutdown, true

	case m&markShutdown != 0:
		x.Class = Shutdown

	case c.stopped && (ofContext || c.cause != nil && safeIs(e.err, c.cause)):
		x.Class = Shutdown

	case ofContext && c.cause == nil:
		x.Err = fmt.Errorf("error of another context, while the child's own is live: %w", e.err)
	}
}

// marks says which errors that have a meaning here an error is.
type marks uint8

const (
	markTerminate marks = 1 << iota
	markRemove
	markShutdown
	markCanceled
	markDeadline
)

// meanings are the errors of the marks, in order.
var meanings = [...]error{suture.ErrTerminateSupervisorTree, suture.ErrDoNotRestart, ErrShutdown, context.Canceled,
	context.DeadlineExceeded}

// marksOf returns the marks of err.
func marksOf(err error) (m marks) {
	leaf := isLeaf(err)
	for i, meaning := range meanings {
		if leaf && err == meaning || !leaf && safeIs(err, meaning) {
			m |= 1 << i
		}
	}
	return m
}

// plainError is the type that errors.New returns.
var plainError = reflect.TypeOf(errors.New(""))

// isLeaf reports whether err is nothing but itself, so that errors.Is is a comparison. No method of
// such an error can panic.
func isLeaf(err error) bool { return reflect.TypeOf(err) == plainError }

// isOfContext reports whether err is the error of a cancelled context, or its cause.
func isOfContext(err, cause error) bool {
	return safeIs(err, context.Canceled) || safeIs(err, context.DeadlineExceeded) ||
		(cause != nil && safeIs(err, cause))
}

// leave ends one goroutine. The last one concludes the incarnation. Its steps are those of guard.
func (inc *incarnation) leave(e *ending, main bool) {
	if inc.count(e, main) && !inc.staysBehind() && inc.end() {
		inc.owner.(*Run).handOn(inc)
	}
}

// count notes the end of one goroutine, and reports whether it was the last one.
func (inc *incarnation) count(e *ending, main bool) (last bool) {
	inc.mu.Lock()
	defer inc.mu.Unlock()

	inc.live--
	last = inc.live == 0

	switch {
	case main:
		inc.mainLeft = true
		c := inc.closingLocked()
		c.main, c.mainCirc.stopped = *e, inc.stopped
		if inc.life.Err() != nil {
			c.mainCirc.cause = context.Cause(inc.life)
		}

		if last {
			inc.cancel(nil)
			break
		}
		// Its descendants must end too, within the same bound. For the descendants of a supervisor
		// the bound is a worker's.
		inc.endLocked(ErrShutdown)
		if !inc.isBounded && inc.shutdown == 0 {
			inc.boundLocked(DefaultShutdown)
		}

	case !e.harmless(inc.life):
		inc.failLocked(*e)
	}

	return last
}

// end notes that nothing of the incarnation runs any more, and settles it.
func (inc *incarnation) end() (awaited bool) {
	if inc.setEnded() {
		inc.endOrphan()
	}
	return inc.settle(false)
}

// setEnded reports whether the incarnation was an orphan.
func (inc *incarnation) setEnded() bool {
	inc.mu.Lock()
	inc.ended = true
	if inc.isBounded {
		inc.hub.bounds.withdraw(inc.endBoundLocked())
	}
	orphan := inc.isOrphan
	inc.mu.Unlock()
	return orphan
}

// endOrphan notes that an orphan has ended after all.
func (inc *incarnation) endOrphan() {
	inc.hub.removeOrphan(inc)

	inc.mu.Lock()
	late, brutal := inc.closing.orphanedAt, inc.brutal
	var exit Exit
	inc.verdictLocked(&exit, false)
	inc.mu.Unlock()

	if !brutal {
		inc.emit(func(h Header) Event { return OrphanEnded{Header: h, Exit: exit, After: time.Since(late)} })
	}
}

// conclude settles the incarnation, and has the run go on that waits for it.
func (inc *incarnation) conclude(orphaned bool) {
	if inc.settle(orphaned) {
		inc.owner.(*Run).handOn(inc)
	}
}

// settle fixes the exit and tells all that wait for it. Only the first call has an effect. It
// reports whether the caller is to call handOn of the run.
func (inc *incarnation) settle(orphaned bool) (awaited bool) {
	if !inc.fix(orphaned) {
		return false
	}

	if inc.owner != nil { // first, so that its books are in order when others learn of the exit
		awaited = inc.owner.exited(inc)
	}

	if w := inc.makeKnown(); w != nil {
		w.tell(inc.exit())
	}
	inc.hub.changes.fire()
	inc.hub.touch(inc.path, false)

	return awaited
}

// fix fixes the exit, and reports whether it was not fixed before.
func (inc *incarnation) fix(orphaned bool) bool {
	inc.mu.Lock()
	defer inc.mu.Unlock()

	if inc.concluded || (orphaned && inc.ended) {
		return false
	}

	inc.concluded = true
	inc.verdictLocked(&inc.closingLocked().exit, orphaned)
	if !inc.isAcked {
		inc.hub.bounds.withdraw(&inc.bound)
	}
	return true
}

// makeKnown lets others learn of the exit, and returns those who are to be told.
func (inc *incarnation) makeKnown() (watchers *watcher) {
	inc.mu.Lock()
	defer inc.mu.Unlock()

	inc.known = true
	watchers, inc.watchers = inc.watchers, nil
	if inc.rare != nil && inc.rare.done != nil {
		close(inc.rare.done)
	}
	if inc.record == nil {
		inc.look()
	}
	return watchers
}

// verdictLocked sets x to the exit as far as it is known.
func (inc *incarnation) verdictLocked(x *Exit, orphaned bool) {
	if c := inc.closingLocked(); c.failure == nil && inc.mainLeft { // the usual case
		classify(&c.main, &c.mainCirc, c.killed, x)
	} else {
		inc.mixedVerdictLocked(x)
	}

	x.Duration = time.Since(inc.began)
	if orphaned {
		inc.orphanVerdictLocked(x)
	}
}

// mixedVerdictLocked is verdictLocked if a descendant has failed, or the main goroutine still runs.
func (inc *incarnation) mixedVerdictLocked(x *Exit) {
	e, c, failure := inc.closing.main, inc.closing.mainCirc, inc.closing.failure
	switch {
	case !inc.mainLeft && failure == nil:
		// No goroutine has ended by itself: the incarnation was told to end.
		e, c = ending{err: context.Canceled}, circumstances{stopped: inc.stopped, cause: context.Cause(inc.life)}

	case failure != nil:
		if !inc.failFirst {
			if classify(&e, &c, nil, x); x.Class == Abnormal {
				break
			}
		}
		e, c.stopped = *failure, inc.stopped && inc.failFirst
	}

	classify(&e, &c, inc.closing.killed, x)
}

func (inc *incarnation) orphanVerdictLocked(x *Exit) {
	x.Class, x.Orphaned, x.remove, x.terminate = Abnormal, true, false, false
	x.Err = ErrOrphan
	switch c := inc.closing; {
	case c.killed != nil:
		x.Err = fmt.Errorf("%w, %w", c.killed, ErrOrphan)
	case c.failure != nil:
		x.Err = fmt.Errorf("%w, after %w", ErrOrphan, c.failure.cause())
	case inc.rare != nil && inc.rare.left != nil:
		x.Err = inc.rare.left.error()
	}
}

// harmless reports whether the end of a descendant is no failure: it returned nil, or the context's
// error after the context was done.
func (e *ending) harmless(ctx context.Context) bool {
	if e.panic != nil || e.goexit {
		return false
	}
	return e.err == nil || (ctx.Err() != nil && isOfContext(e.err, context.Cause(ctx)))
}
