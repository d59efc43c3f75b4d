package supervisor

import (
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/thejerf/suture/v4"
)

var (
	// ErrShutdown is an orderly end with a reason. An error that Is ErrShutdown has OTP's class
	// {shutdown, _}.
	ErrShutdown = errors.New("shutdown")
	// ErrIgnore is returned by a StartFunc or by Build that has nothing to run, though nothing is
	// wrong (OTP rules 12 and 16).
	ErrIgnore = errors.New("ignore")
	// ErrNotFound refuses an operation on a child that the supervisor does not have.
	ErrNotFound = errors.New("no such child")
	// ErrAlreadyStarted is returned by StartChild if the child runs; see [AlreadyStartedError] for
	// its Ref.
	ErrAlreadyStarted = errors.New("child is already started")
	// ErrAlreadyPresent is returned by StartChild if the child is specified but does not run (OTP
	// rule 22).
	ErrAlreadyPresent = errors.New("child is already specified, though not running")
	// ErrRunning refuses an operation on a child or a supervisor that runs.
	ErrRunning = errors.New("is running")
	// ErrRestarting refuses an operation on a child between two attempts to restart it.
	ErrRestarting = errors.New("is restarting")
	// ErrNotRunning is returned for a supervisor or a child that does not run. It is OTP's noproc.
	ErrNotRunning = errors.New("is not running")
	// ErrWouldDeadlock refuses a call into a supervisor that would wait for the caller itself: from
	// a child to stop itself or a supervisor above it, and from the start or the stop of a child
	// into its own supervisor, which is busy with just that. Other calls of a running child into
	// its own supervisor are served.
	ErrWouldDeadlock = errors.New("the call would wait for its own caller")
	// ErrNotSupervised is returned for a context that does not belong to a supervised child.
	ErrNotSupervised = errors.New("context belongs to no supervised child")
	// ErrMaxIntensity is the cause of a supervisor that gave up after too many restarts (OTP rule
	// 45).
	ErrMaxIntensity = errors.New("reached maximum restart intensity")
	// ErrMaxChildren is returned by a Dynamic that is full.
	ErrMaxChildren = errors.New("reached maximum number of children")
	// ErrOrphan is the cause of a supervisor that gave up because a child did not end within its
	// shutdown time.
	ErrOrphan = errors.New("did not end within its shutdown time")
	// ErrStartTimeout is the failure of a start that was not acknowledged in time.
	ErrStartTimeout = errors.New("start was not acknowledged within its time")
	// ErrEndedBeforeReady is the failure of a service that returned before it called Ready, though
	// its Ack is AckReady.
	ErrEndedBeforeReady = errors.New("ended before it called Ready")
	// ErrKilled is in the error of every incarnation that Kill ended.
	ErrKilled = errors.New("killed")
	// ErrGoexit is the error of an incarnation whose goroutine called runtime.Goexit.
	ErrGoexit = errors.New("goroutine called runtime.Goexit")
	// ErrNotInjectable is returned by Inject if the incarnation does not take the fault.
	ErrNotInjectable = errors.New("fault was not taken")
	// ErrFenced refuses an operation on a revoked Grant.
	ErrFenced = errors.New("fenced: the grant has been revoked")
	// ErrLeaseStuck is fatal. Operations of the revoked grant are still in flight after the bound,
	// so the resource cannot be opened safely.
	ErrLeaseStuck = errors.New("operations of the previous grant are still in flight")
	// ErrSpec is in every error about a supervisor's flags or a child specification.
	ErrSpec = errors.New("invalid specification")
)

// StartError is a failed start (OTP rule 17). Nested supervisors nest it: Err may hold the
// StartError of the level below. errors.As finds the outermost; see [StartError.Root].
type StartError struct {
	// Path is the child's full path.
	Path string
	// ID is the child's ID within its supervisor.
	ID string
	// Err is the reason.
	Err error
}

func (e *StartError) Error() string { return fmt.Sprintf("child %q failed to start: %v", e.ID, e.Err) }

// Unwrap returns the reason.
func (e *StartError) Unwrap() error { return e.Err }

// Root returns the innermost StartError: the child where the failure began.
func (e *StartError) Root() *StartError {
	for {
		var inner *StartError
		if !errors.As(e.Err, &inner) {
			return e
		}
		e = inner
	}
}

// AlreadyStartedError is ErrAlreadyStarted with the incarnation that runs.
type AlreadyStartedError struct{ Ref Ref }

func (e *AlreadyStartedError) Error() string {
	return fmt.Sprintf("%q: %v", e.Ref.ID(), ErrAlreadyStarted)
}

// Is reports whether target is ErrAlreadyStarted.
func (e *AlreadyStartedError) Is(target error) bool { return target == ErrAlreadyStarted }

// GiveUpError is the error of a supervisor that gave up (OTP rule 45). Its class is shutdown.
// errors.Is finds ErrShutdown, the Cause, and the errors in the offender's exit, but never suture's
// sentinels, which are not meant for the levels above.
type GiveUpError struct {
	// Supervisor is the path of the supervisor that gave up, "" for the root.
	Supervisor string
	// Offender is the path of the child whose end exceeded the limit, or that is the orphan.
	Offender string
	// Cause is ErrMaxIntensity or ErrOrphan.
	Cause error
	// Exit is the offender's last exit, or its failed start.
	Exit Exit
	// Attempts is the number of attempts within the window, including the one that was refused.
	// Intensity is the limit.
	Attempts  int
	Intensity Intensity
}

func (e *GiveUpError) Error() string {
	who := "supervisor"
	if e.Supervisor != "" {
		who += " " + e.Supervisor
	}

	if e.Cause == ErrMaxIntensity {
		return fmt.Sprintf("%s gave up: %v (%d in %v): last was %s: %v", who, e.Cause, e.Intensity.Max,
			e.Intensity.Period, e.Offender, e.Exit)
	}

	return fmt.Sprintf("%s gave up: %s %v: %v", who, e.Offender, e.Cause, e.Exit)
}

// Is reports whether target is ErrShutdown, the cause, or in the offender's exit.
func (e *GiveUpError) Is(target error) bool {
	return target == ErrShutdown || target == e.Cause || shielded(e.Exit.Err, target)
}

// As looks into the offender's exit.
func (e *GiveUpError) As(target any) bool { return e.Exit.Err != nil && errors.As(e.Exit.Err, target) }

// AutoShutdownError is the error of a supervisor that stopped because significant children ended
// (OTP rules 65 to 69). Its class is shutdown. errors.Is and errors.As find the same as in a
// GiveUpError.
type AutoShutdownError struct {
	// Supervisor and Child are full paths. Child is the significant child whose end caused the
	// shutdown, and Exit is its exit.
	Supervisor, Child string
	Exit              Exit
}

func (e *AutoShutdownError) Error() string {
	return fmt.Sprintf("automatic shutdown: significant child %s ended: %v", e.Child, e.Exit)
}

// Is reports whether target is ErrShutdown or in the child's exit.
func (e *AutoShutdownError) Is(target error) bool {
	return target == ErrShutdown || shielded(e.Exit.Err, target)
}

// As looks into the child's exit.
func (e *AutoShutdownError) As(target any) bool {
	return e.Exit.Err != nil && errors.As(e.Exit.Err, target)
}

// shielded reports whether errors.Is(err, target) holds, except that it returns false for suture's
// sentinels. Those are meant only for the first supervisor that gets them.
func shielded(err, target error) bool {
	return target != suture.ErrDoNotRestart && target != suture.ErrTerminateSupervisorTree && safeIs(err, target)
}

// PanicError is a panic in a child, or in a goroutine that it started with Go.
type PanicError struct {
	Value any
	Stack Stack
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns the panic's value if that was an error.
func (e *PanicError) Unwrap() error { err, _ := e.Value.(error); return err }

// Stack is the stack of a goroutine when it panicked, innermost frame first, as runtime.Callers
// returns it: its text costs ten times as much as all the rest of a panic, and is made when it is
// asked for. It has no arguments of the functions, and no number of the goroutine.
type Stack []uintptr

// newStack returns the stack of the caller, without skip frames.
func newStack(skip int) Stack {
	pcs := make(Stack, 24)
	for {
		n := runtime.Callers(skip+1, pcs)
		if n < len(pcs) || n >= maxStack {
			return pcs[:n]
		}
		pcs = make(Stack, 4*n)
	}
}

// maxStack is the number of frames that a stack has at most, or a little more.
const maxStack = 1024

// String returns the text of the stack: two lines for each frame, as a panic prints them.
func (s Stack) String() string {
	if len(s) == 0 {
		return ""
	}

	var b strings.Builder
	frames := runtime.CallersFrames(s)
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		fmt.Fprintf(&b, "%s(...)\n\t%s:%d\n", f.Function, f.File, f.Line)
	}
	return b.String()
}

// newPanic makes the PanicError of a value that was just recovered.
func newPanic(v any) *PanicError {
	e := &PanicError{Value: v, Stack: newStack(2)}
	if err, ok := v.(error); ok && inspectPanic(err) != nil {
		e.Value = fmt.Sprint(v) // fmt recovers from the panic
	}
	return e
}

// safeError returns err, or, if err panics when it is inspected, an error that says so. A typed nil
// often does: it is not nil, but its methods do not expect that. Such an error is the fault of the
// child that returned it, so it must not first panic in the supervisor that inspects it.
func safeError(err error) error {
	if err == nil || isLeaf(err) {
		return err
	}
	if f := inspectPanic(err); f != nil {
		return f
	}
	return err
}

// inspectPanic returns an error with the panic of inspecting err, nil if that does not panic.
func inspectPanic(err error) (out error) {
	defer func() {
		if v := recover(); v != nil {
			out = fmt.Errorf("an error of type %T panics when it is inspected: %w", err,
				&PanicError{Value: fmt.Sprint(v), Stack: newStack(2)})
		}
	}()

	var panicked *PanicError
	_, _, _ = errors.Is(err, ErrShutdown), errors.As(err, &panicked), err.Error()
	return nil
}

// safeIs reports whether errors.Is(err, target) holds, and never panics. errors.Is can panic in two
// cases: when two errors of a comparable type hold values that cannot be compared, and when an Is
// method panics. In both cases safeIs returns false.
func safeIs(err, target error) (found bool) {
	defer func() {
		if recover() != nil {
			found = false
		}
	}()
	return errors.Is(err, target)
}

// ignores reports whether err is the ErrIgnore that a start returned (OTP rule 16). It returns
// false if ErrIgnore is only inside an error of another kind: a panic, a failed start of a child
// below, or a supervisor that gave up or shut down.
func ignores(err error) bool {
	if !safeIs(err, ErrIgnore) {
		return false
	}
	var panicked *PanicError
	var failed *StartError
	var gaveUp *GiveUpError
	var auto *AutoShutdownError
	return !errors.As(err, &panicked) && !errors.As(err, &failed) && !errors.As(err, &gaveUp) && !errors.As(err, &auto)
}

func name(kind string, i int, names ...string) string {
	if i >= 0 && i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("%s(%d)", kind, i)
}
