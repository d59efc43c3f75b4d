package engines

import (
	"errors"
	"fmt"
)

var (
	// ErrDown: the engine is down. Every *DownError is an ErrDown.
	ErrDown = errors.New("engine is down")

	// ErrUnknownMessage: the engine has no handler for messages of this type. The sender gets it,
	// and the engine does not get the message.
	ErrUnknownMessage = errors.New("engine does not take this message")

	// ErrNameTaken: another engine of this name runs, so this one was not started.
	ErrNameTaken = errors.New("engine name is taken")

	// ErrWouldDeadlock: the engine that was called waits for its caller, so the call would never
	// return. The message names the engines of the ring.
	ErrWouldDeadlock = errors.New("engines would wait for each other for ever")
)

// DownError says which incarnation could not be reached, and why.
type DownError struct {
	Engine      string
	Incarnation uint64 // 0: no incarnation has registered
	Delivered   bool   // the mailbox had accepted the call, so it may have been handled
	Cause       error  // why the incarnation ended; nil if none has registered
}

func (e *DownError) Error() string {
	switch {
	case e.Incarnation == 0 && e.Cause == nil:
		return fmt.Sprintf("engine %s is down: it has not started", e.Engine)
	case e.Incarnation == 0:
		return fmt.Sprintf("engine %s is down: %v", e.Engine, e.Cause)
	default:
		return fmt.Sprintf("engine %s is down: incarnation %d ended: %v", e.Engine, e.Incarnation, e.Cause)
	}
}

// Is makes every DownError an ErrDown.
func (e *DownError) Is(target error) bool { return target == ErrDown }

// Unwrap returns the Cause.
func (e *DownError) Unwrap() error { return e.Cause }
