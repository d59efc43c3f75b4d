package supervisor

import (
	"context"
	"errors"
	"fmt"
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
	Stack []byte
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

func (e ending) cause() error {
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
	killed  error // the reason that Kill was called with, nil if it was not
	stopped bool  // the supervisor had told it to end
	cause   error // of the incarnation's context, nil while that is live
}

// classify makes the Exit of an ending, by the table "Exit classes" in docs/otp-rules.md.
func classify(e ending, c circumstances) Exit {
	x := Exit{Class: Abnormal, Err: e.cause(), Stopped: c.stopped, Goexit: e.goexit}
	if e.panic != nil {
		x.Panic, x.Stack = e.panic.Value, e.panic.Stack
	}

	switch {
	case c.killed != nil:
		x.Killed = true
		if e.panic == nil && !e.goexit {
			x.Err = c.killed
		} else {
			x.Err = fmt.Errorf("%w; then %w", c.killed, x.Err)
		}
	case e.panic != nil || e.goexit:
	case e.err == nil:
		x.Class = Normal

	case safeIs(e.err, suture.ErrTerminateSupervisorTree):
		x.Class, x.terminate = Shutdown, true

	case safeIs(e.err, suture.ErrDoNotRestart):
		x.Class, x.remove = Shutdown, true

	case safeIs(e.err, ErrShutdown):
		x.Class = Shutdown

	case c.stopped && isOfContext(e.err, c.cause):
		x.Class = Shutdown

	case isOfContext(e.err, nil) && c.cause == nil:
		x.Err = fmt.Errorf("error of another context, while the child's own is live: %w", e.err)
	}

	return x
}

// isOfContext reports whether err is the error of a cancelled context, or its cause.
func isOfContext(err, cause error) bool {
	return safeIs(err, context.Canceled) || safeIs(err, context.DeadlineExceeded) ||
		(cause != nil && safeIs(err, cause))
}
