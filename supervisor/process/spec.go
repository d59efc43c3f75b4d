package process

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/coppice-go/coppice/supervisor"
)

const (
	// DefaultGrace is how long a process may take to end after TermSignal if its Spec sets no
	// Grace. It fits into supervisor.DefaultShutdown.
	DefaultGrace = 3 * time.Second
	// DefaultReadyTimeout bounds the wait for the probe if the Spec sets no ReadyTimeout. It fits
	// into supervisor.DefaultStartTimeout.
	DefaultReadyTimeout = 20 * time.Second
	// DefaultMaxLine is the length in bytes of the longest piece of a line, if the Spec sets no
	// MaxLine.
	DefaultMaxLine = 64 << 10
	// DrainTime is how long output is still read after the process has ended, if a descendant keeps
	// it open.
	DrainTime = 500 * time.Millisecond

	// reapTime is what Child allows for the system to end a process after SIGKILL.
	reapTime = time.Second
)

// ExitZero decides what an exit with status 0 means if the process was not asked to stop.
type ExitZero uint8

const (
	// ExitZeroNormal means that the process is done: the exit is of class normal.
	ExitZeroNormal ExitZero = iota
	// ExitZeroAbnormal means that it should not have ended: the exit is an ExitError with Status 0.
	ExitZeroAbnormal
)

func (z ExitZero) String() string {
	switch z {
	case ExitZeroNormal:
		return "normal"
	case ExitZeroAbnormal:
		return "abnormal"
	}
	return fmt.Sprintf("ExitZero(%d)", uint8(z))
}

// Spec specifies an operating-system process.
type Spec struct {
	// Name is the name of the process in errors, and the ID of the child that Child returns. The
	// default is the last element of Path.
	Name string
	// Path is the program. Without a slash it is looked up in the PATH of this process.
	Path string
	// Args are the arguments, without the program's name.
	Args []string
	// Argv0 is the name that the process is given as its own and that ps shows; empty means Path.
	// It has no effect on which program is executed.
	Argv0 string
	// Dir is the working directory; empty means that of this process.
	Dir string
	// Env is the whole environment, as "key=value": nothing is inherited unless it is listed, see
	// Inherit.
	Env []string

	// Stdout and Stderr get the lines of output, without line ends. Calls of one function do not
	// overlap, but the two may run at the same time. The slice is valid during the call only. While
	// a call blocks, the process blocks when it writes. A panic is a panic of the child. Nil
	// discards the output.
	Stdout, Stderr func(line []byte)
	// MaxLine bounds the bytes that one call gets, and is at least 16. A longer line comes in
	// pieces of that size. Zero means DefaultMaxLine.
	MaxLine int
	// NullStdin gives the process the null device as standard input, for programs that read
	// commands from it. Without NullStdin, standard input is a pipe that ends with this process.
	NullStdin bool

	// Ready decides when the start is acknowledged. The zero Probe acknowledges it as soon as the
	// program has been executed.
	Ready Probe
	// ReadyTimeout bounds the wait for Ready. When it has passed, the process is stopped and the
	// start has failed. Zero means DefaultReadyTimeout. It should be shorter than the Child's
	// StartTimeout, whose error says less about the cause.
	ReadyTimeout time.Duration

	// TermSignal asks the process group to end. Zero means SIGTERM.
	TermSignal syscall.Signal
	// Grace is how long the process may take to end before the whole group gets SIGKILL: a time,
	// supervisor.Brutal for SIGKILL at once, or supervisor.Infinity. Zero means DefaultGrace. The
	// Child's Shutdown must be longer, or the supervisor declares the incarnation an orphan before
	// that. Child sets such a Shutdown.
	Grace time.Duration
	// ExitZero defaults to ExitZeroNormal.
	ExitZero ExitZero
	// Guard adds a small process to the group, a /bin/sh, which kills the whole group when this
	// process has ended without having done so. It ends grandchildren when this process is killed,
	// and, outside of Linux, a child that does not call WatchParent. Unix only.
	Guard bool
}

// Info is the start info of the process (supervisor.Ref.Info).
type Info struct {
	// PID is the number of the process.
	PID int
	// Group is its process group, 0 on Windows. With a Guard it differs from the PID.
	Group int
}

// Inherit returns the named variables that this process has, as "key=value", for Spec.Env.
func Inherit(names ...string) []string {
	var env []string
	for _, name := range names {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// Start returns a StartFunc that starts the process and returns when it is ready, so the Child's
// Ack stays AckStart. Its service serves until the process has ended. It works within a supervised
// child only.
//
// If the process is not ready in time, or ends before it is, the start fails with [ErrNotReady] and
// an ExitError that says how the process ended. A stop that the process obeyed is quiet: it ended
// within Grace, by TermSignal, with status 0 or with 128 plus the signal's number, as shells do.
// Any other end is an ExitError. The error for an invalid Spec wraps supervisor.ErrSpec.
func Start(spec Spec) supervisor.StartFunc {
	return func(ctx context.Context) (supervisor.Service, error) {
		s, err := spec.complete()
		if err != nil {
			return nil, err
		}
		r, err := launch(ctx, s)
		if err != nil {
			return nil, err
		}

		return r, nil
	}
}

// Child returns a permanent child for the process. Its ID is the process's name, and its Shutdown
// and StartTimeout leave room for Grace and ReadyTimeout. The caller may change the other fields.
func Child(spec Spec) supervisor.Child {
	c := supervisor.Child{ID: spec.name(), Start: Start(spec)}
	grace, ready := max(orDefault(spec.Grace, DefaultGrace), 0), orDefault(spec.ReadyTimeout, DefaultReadyTimeout)
	c.Shutdown = sum(grace, DrainTime+reapTime)
	c.StartTimeout = sum(ready, c.Shutdown)
	return c
}

func (s Spec) name() string {
	if s.Name == "" && s.Path != "" {
		return filepath.Base(s.Path)
	}
	return s.Name
}

// complete checks the spec and fills in the defaults.
func (s Spec) complete() (Spec, error) {
	s.Name = s.name()
	wrong := func(format string, args ...any) (Spec, error) {
		return Spec{}, fmt.Errorf("%w: process %q: %s", supervisor.ErrSpec, s.Name, fmt.Sprintf(format, args...))
	}

	switch {
	case s.Path == "":
		return wrong("Path is empty; expected a program")

	case s.MaxLine < 0 || s.MaxLine > 0 && s.MaxLine < 16:
		return wrong("MaxLine is %d; expected at least 16 bytes, or 0 for %d", s.MaxLine, DefaultMaxLine)

	case s.ReadyTimeout < 0:
		return wrong("ReadyTimeout is %v; expected a positive time, or 0 for %v", s.ReadyTimeout, DefaultReadyTimeout)

	case s.Grace < 0 && s.Grace != supervisor.Brutal:
		return wrong("Grace is %v; expected a positive time, Brutal, or 0 for %v", s.Grace, DefaultGrace)

	case s.TermSignal < 0:
		return wrong("TermSignal is %d; expected a signal, or 0 for SIGTERM", s.TermSignal)

	case s.ExitZero > ExitZeroAbnormal:
		return wrong("ExitZero is %v; expected normal or abnormal", s.ExitZero)

	case s.Ready.wrong != nil:
		return wrong("Ready: %v", s.Ready.wrong)

	case s.Guard && !canGuard:
		return wrong("Guard is set; it needs a Unix")
	}

	s.Grace = orDefault(s.Grace, DefaultGrace)
	s.ReadyTimeout = orDefault(s.ReadyTimeout, DefaultReadyTimeout)
	if s.MaxLine == 0 {
		s.MaxLine = DefaultMaxLine
	}
	if s.TermSignal == 0 {
		s.TermSignal = syscall.SIGTERM
	}
	if s.Grace == supervisor.Brutal {
		s.TermSignal = syscall.SIGKILL
	}

	return s, nil
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// sum adds a margin to d, which may be Infinity.
func sum(d, margin time.Duration) time.Duration {
	if d > supervisor.Infinity-margin {
		return supervisor.Infinity
	}
	return d + margin
}
