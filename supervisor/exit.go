package supervisor

import (
	"fmt"
	"time"
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

// Exit is how an incarnation ended.
type Exit struct {
	Class Class
	// Err is what Serve (or a goroutine started with Go) returned, nil if that was nil; a panic is a *PanicError.
	Err error
	// Panic and Stack are the value and the stack of a panic.
	Panic any
	Stack []byte
	// Goexit: the goroutine ended by runtime.Goexit.
	Goexit bool
	// Killed: Kill ended it.
	Killed bool
	// Orphaned: it had not ended within its shutdown time, and may still run.
	Orphaned bool
	// Stopped: it had been told to end by its supervisor before it ended.
	Stopped bool
	// Duration is from the begin of the start to the end.
	Duration time.Duration

	remove    bool // suture.ErrDoNotRestart
	terminate bool // suture.ErrTerminateSupervisorTree
}

// Error is the exit as an error: nil for the class Normal.
func (e Exit) Error() error {
	if e.Class == Normal {
		return nil
	}
	if e.Err != nil {
		return e.Err
	}
	return ErrShutdown
}

// String is the reason in words.
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
