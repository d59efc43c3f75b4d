package process

import (
	"context"
	"fmt"
	"io"
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

// KillMode says which processes of a group get signals. On Windows, only the process itself does.
type KillMode uint8

const (
	// KillGroup sends TermSignal and SIGKILL to the whole group, and when the process has ended,
	// SIGKILL to the rest of it.
	KillGroup KillMode = iota
	// KillMixed sends TermSignal to the process alone, for a server that ends its own workers.
	// After Grace, and when the process has ended, the group gets SIGKILL.
	KillMixed
	// KillProcess sends both signals to the process alone and spares the rest of its group, for a
	// server whose workers finish their jobs after it. They are then nobody's: nothing stops them,
	// and a restart does not wait for them. Their output is read for DrainTime, and then a write to
	// it fails. Not with a Guard, which ends the group.
	KillProcess
)

func (k KillMode) String() string {
	switch k {
	case KillGroup:
		return "group"
	case KillMixed:
		return "mixed"
	case KillProcess:
		return "process"
	}
	return fmt.Sprintf("KillMode(%d)", uint8(k))
}

// PTY describes a pseudo-terminal.
type PTY struct {
	// Rows and Cols are its size. Zero means 24 and 80.
	Rows, Cols uint16
}

// Socket is a socket that is passed to a process.
type Socket struct {
	// Name is its name in LISTEN_FDNAMES. Empty means "unknown", as in systemd.
	Name string
	// File is the socket, for instance from net.TCPListener.File.
	File *os.File
}

// Limits are resource limits of a process, which its descendants inherit. They are set as soon as
// the process exists, so it may run for an instant without them. Zero means the limit of this
// process.
type Limits struct {
	// Memory is the most memory that the process may have to write to, in bytes (RLIMIT_DATA):
	// heap, stacks and private mappings, but not what it only reserves.
	Memory uint64
	// Files is the most descriptors that it may have open (RLIMIT_NOFILE).
	Files uint64
	// NoCore keeps the process from leaving a core file, which would hold its secrets.
	NoCore bool
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
	// Stdin, if set, writes the standard input of each incarnation. When it returns, the process
	// reads the end of its input. Its context ends when the process is told to end or has ended,
	// and writes fail from the latter on. An error that is not about the end of the process or of
	// the context is a failure of the child.
	Stdin func(ctx context.Context, w io.Writer) error
	// PTY gives the process a pseudo-terminal as its input, output and controlling terminal, for
	// programs that behave otherwise without one. Its lines go to Stdout and to the last lines of
	// an ExitError; it echoes what Stdin writes, as terminals do. It is closed when this process
	// ends, which is SIGHUP for the process. Linux only; not with a Guard.
	PTY *PTY

	// User and Group are the names or numbers of whom the process runs as; empty means as this
	// process. A User brings its own groups, and Group then replaces the primary one. To become
	// another user, this process must be privileged. Unix only.
	User, Group string
	// Umask is the octal mask for the files that the process makes, for instance "027"; empty means
	// that of this process. Unix only; see Sockets for the shell that it needs.
	Umask string
	// Sockets are passed to the process by the protocol of systemd's socket activation: as the
	// descriptors from 3 on, with LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID. They stay open here,
	// so no connection is refused during a restart; this process should not accept on them. Unix
	// only.
	//
	// LISTEN_PID is known only after the fork. So a /bin/sh sets it, as it does Umask, and becomes
	// the program by exec: the number stays. The shell may add PWD, SHLVL and _ to Env. If exec
	// fails, the process exits with status 126 or 127, as shells do. Argv0 cannot be set then.
	Sockets []Socket
	// ExtraFiles are passed to the process as the descriptors after Sockets, from 3 on. They stay
	// open here. Unix only.
	ExtraFiles []*os.File

	// Executable, if set, is the program, and Path is only its name in errors and as Argv0. What is
	// executed is this open file, whatever lies at Path by then: who has checked the file executes
	// what was checked. It stays open here. A script cannot be executed so. Linux only; not with
	// Sockets or Umask.
	Executable *os.File
	// Limits bound what the process may use. Linux only.
	Limits Limits

	// Ready decides when the start is acknowledged. The zero Probe acknowledges it as soon as the
	// program has been executed.
	Ready Probe
	// ReadyTimeout bounds the wait for Ready. When it has passed, the process is stopped and the
	// start has failed. Zero means DefaultReadyTimeout. It should be shorter than the Child's
	// StartTimeout, whose error says less about the cause.
	ReadyTimeout time.Duration

	// TermSignal asks the process group to end. Zero means SIGTERM.
	TermSignal syscall.Signal
	// Kill says which processes of the group get signals, and what happens to the rest when the
	// process has ended. Zero means KillGroup.
	Kill KillMode
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
