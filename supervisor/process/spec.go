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
	// DefaultGrace is how long a process may take to end after TermSignal if its Spec does not say.
	// It fits into supervisor.DefaultShutdown.
	DefaultGrace = 3 * time.Second
	// DefaultReadyTimeout bounds the wait for the probe if the Spec does not. It fits into
	// supervisor.DefaultStartTimeout.
	DefaultReadyTimeout = 20 * time.Second
	// DefaultMaxLine is the longest piece of a line in bytes, if the Spec does not say.
	DefaultMaxLine = 64 << 10
	// DrainTime is how long output is still read after the process has ended, when something else
	// keeps it open.
	DrainTime = 500 * time.Millisecond

	// reapTime is what Child allows for the system to end a process after SIGKILL.
	reapTime = time.Second
)

// ExitZero says what an exit with status 0 is, of a process that was not asked to stop.
type ExitZero uint8

const (
	// ExitZeroNormal: the process is done, an exit of class normal.
	ExitZeroNormal ExitZero = iota
	// ExitZeroAbnormal: it should not have ended at all; the exit is an ExitError with Status 0.
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
	// Name is the process's in errors, and the ID that Child gives. Default is the last element of
	// Path.
	Name string
	// Path is the program. Without a slash it is looked up in the PATH of this process.
	Path string
	// Args are the arguments, without the program's name.
	Args []string
	// Argv0 is what the process is told its own name is, and what ps shows; Path if empty. It does
	// not say what is executed.
	Argv0 string
	// Dir is the working directory, that of this process if empty.
	Dir string
	// Env is the whole environment, as "key=value": nothing is inherited unless it is listed, see
	// Inherit.
	Env []string

	// Stdout and Stderr get the lines of output without their ends, one at a time each, but the two
	// may run at once. The slice is valid during the call only. While a call blocks, the process
	// blocks when it writes; a panic is the child's. Nil discards.
	Stdout, Stderr func(line []byte)
	// MaxLine bounds what one call gets, in bytes, at least 16; a longer line comes in pieces of
	// that size. Zero is DefaultMaxLine.
	MaxLine int
	// NullStdin gives the process the null device as standard input, for programs that take what
	// comes there for commands. Without it that is a pipe which ends with this process.
	NullStdin bool

	// Ready says when the start is acknowledged. The zero Probe is: as soon as the program has been
	// executed.
	Ready Probe
	// ReadyTimeout bounds the wait for that; past it the process is stopped and the start has
	// failed. Zero is DefaultReadyTimeout. It should be shorter than the Child's StartTimeout,
	// which knows less about why.
	ReadyTimeout time.Duration

	// TermSignal asks the process group to end. Zero is SIGTERM.
	TermSignal syscall.Signal
	// Grace is how long it may take before the whole group gets SIGKILL: a time, supervisor.Brutal
	// for SIGKILL at once, or supervisor.Infinity. Zero is DefaultGrace. The Child's Shutdown must
	// be longer, or the supervisor will call the incarnation an orphan in between; Child sees to
	// it.
	Grace time.Duration
	// ExitZero defaults to ExitZeroNormal.
	ExitZero ExitZero
	// Guard adds a small process to the group, a /bin/sh, which kills the whole group when this
	// process has ended without having done so. It is what ends grandchildren when this process is
	// killed, and, outside of Linux, a child that does not call WatchParent. Unix only.
	Guard bool
}

// Info is what a start hands back (supervisor.Ref.Info).
type Info struct {
	// PID is the process's.
	PID int
	// Group is its process group, 0 on Windows. With a Guard it is not the PID.
	Group int
}

// Inherit returns those of the named variables that this process has, as "key=value", for Spec.Env.
func Inherit(names ...string) []string {
	var env []string
	for _, name := range names {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// Start makes a StartFunc that starts the process and returns when it is ready, so the Child's Ack
// stays AckStart. The service is that process; it serves until the process has ended. It works
// within a supervised child only.
//
// A process that is not ready in time, or ends before, is a failed start with [ErrNotReady]; an
// ExitError tells how it ended. A stop that the process obeyed (it ended within Grace, by
// TermSignal, with status 0 or with 128 plus the signal's number, as shells have it) is quiet; any
// other end is an ExitError. A bad Spec is supervisor.ErrSpec.
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

// Child makes a permanent child of the process, with its name for the ID, and with a Shutdown and a
// StartTimeout that leave room for Grace and ReadyTimeout. The caller changes what else should be
// different.
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

// complete checks the spec and puts the defaults in.
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

// sum adds a margin to what may be Infinity.
func sum(d, margin time.Duration) time.Duration {
	if d > supervisor.Infinity-margin {
		return supervisor.Infinity
	}
	return d + margin
}
