package process

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// ErrNotReady is wrapped by the error of a start whose process was not ready in time, or ended
// before it was ready.
var ErrNotReady = errors.New("was not ready")

const (
	// KeptLines is how many of the last lines on stderr an ExitError keeps.
	KeptLines = 32
	// KeptLineBytes is how many bytes of each of them it keeps.
	KeptLineBytes = 1 << 10

	shownLines = 5
)

// ExitError describes how a process ended, if it did not end as it should.
type ExitError struct {
	// Name is the name in the Spec, PID the number of the process.
	Name string
	PID  int
	// Status is what the process exited with, -1 if a signal ended it.
	Status int
	// Signal is the signal that ended it, 0 if it exited.
	Signal syscall.Signal
	// CoreDumped reports whether the signal left a core file.
	CoreDumped bool
	// Asked reports whether the process had been sent TermSignal before.
	Asked bool
	// Forced reports whether it was sent SIGKILL because it had not ended within Grace of that.
	Forced bool
	// LastLines are the last lines it wrote to stderr, oldest first, each cut to KeptLineBytes.
	LastLines []string

	unknown error // why there is no status
}

// Error returns the name of the process, how it ended, and its last lines on stderr.
func (e *ExitError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (pid %d): ", e.Name, e.PID)

	switch {
	case e.unknown != nil:
		fmt.Fprintf(&b, "how it ended is unknown: %v", e.unknown)
	case e.Signal != 0:
		fmt.Fprintf(&b, "signal %d (%v)", int(e.Signal), e.Signal)
	default:
		fmt.Fprintf(&b, "exit status %d", e.Status)
	}

	if e.CoreDumped {
		b.WriteString(", core dumped")
	}

	switch {
	case e.Forced:
		b.WriteString(", as it did not end when asked to")
	case e.Asked:
		b.WriteString(", when asked to end")
	}

	if n := len(e.LastLines); n > 0 {
		b.WriteString("; last on stderr: ")
		b.WriteString(strings.Join(e.LastLines[max(0, n-shownLines):], " | "))
	}

	return b.String()
}

// Unwrap returns the error that left the end unknown, nil if the end is known. The end is unknown
// if other code waited for the process.
func (e *ExitError) Unwrap() error { return e.unknown }

// read fills in how the process ended.
func (e *ExitError) read(state *os.ProcessState, err error) {
	e.Status = -1
	if state == nil {
		e.unknown = err
		return
	}

	e.Status = state.ExitCode()
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		e.Signal, e.CoreDumped = ws.Signal(), ws.CoreDump()
	}
}

// obeyed reports whether the process ended as it should after being sent the signal.
func (e *ExitError) obeyed(sig syscall.Signal) bool {
	if !e.Asked || e.Forced || e.unknown != nil {
		return false
	}
	return sig == syscall.SIGKILL || e.Signal == sig || e.Status == 0 || e.Status == 128+int(sig)
}
