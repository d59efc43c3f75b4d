package process

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// ErrNotReady is in the error of a start whose process was not ready in time, or ended before it
// was.
var ErrNotReady = errors.New("was not ready")

const (
	// KeptLines is how many of the last lines on stderr an ExitError has.
	KeptLines = 32
	// KeptLineBytes is how much of each it has.
	KeptLineBytes = 1 << 10

	shownLines = 5
)

// ExitError is the end of a process that was not as it should be.
type ExitError struct {
	// Name is the Spec's, PID the process's.
	Name string
	PID  int
	// Status is what the process exited with, -1 if a signal ended it.
	Status int
	// Signal is the signal that ended it, 0 if it exited.
	Signal syscall.Signal
	// CoreDumped: the signal left a core file.
	CoreDumped bool
	// Asked: it had been sent TermSignal before.
	Asked bool
	// Forced: it had not ended within Grace of that, and was sent SIGKILL.
	Forced bool
	// LastLines are the last lines it wrote to stderr, oldest first, each cut to KeptLineBytes.
	LastLines []string

	unknown error // why there is no status
}

// Error names the process, how it ended, and the last that it said.
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

// Unwrap returns why the end is unknown: somebody else has waited for the process.
func (e *ExitError) Unwrap() error { return e.unknown }

// read takes from the system how the process ended.
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

// obeyed says whether the process ended as one that was sent the signal should.
func (e *ExitError) obeyed(sig syscall.Signal) bool {
	if !e.Asked || e.Forced || e.unknown != nil {
		return false
	}
	return sig == syscall.SIGKILL || e.Signal == sig || e.Status == 0 || e.Status == 128+int(sig)
}
