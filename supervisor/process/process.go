package process

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/coppice-go/coppice/supervisor"
)

// running is one process, from its start to its end. Four goroutines of the incarnation belong to
// it. The host forks the process, waits for it and reaps it. The stopper sends signals when the
// incarnation is told to end, even if Serve hangs or has panicked. Two readers read the output.
type running struct {
	spec  Spec
	cmd   *exec.Cmd
	guard *guard
	group int

	stdin          *os.File // the end that is never written to
	stdout, stderr *os.File // the ends that are read

	quit    context.CancelFunc // has the stopper end the process
	matched chan struct{}      // closed at the line that Spec.Ready waits for
	ended   chan struct{}      // closed when the process is reaped, its output is read, and exit is set
	exit    *ExitError
	tail    tail

	mu     sync.Mutex
	over   bool // whether the process has ended: no signal may be sent from then on
	asked  bool
	forced bool

	matching sync.Mutex // separate from mu, so that signals never wait for the caller's function
	isReady  bool       // whether matched is closed
}

// launch starts the process and waits until it is ready.
func launch(ctx context.Context, spec Spec) (*running, error) {
	r := &running{spec: spec, matched: make(chan struct{}), ended: make(chan struct{})}
	life, quit := context.WithCancel(ctx)
	r.quit = quit
	launched := make(chan error, 1)
	err := supervisor.Go(ctx, func(ctx context.Context) error {
		defer quit()
		r.host(ctx, life, launched)
		return nil
	})

	if err == nil {
		err = <-launched
	}

	if err != nil {
		quit()
		return nil, fmt.Errorf("process %s: %w", spec.Name, err)
	}

	supervisor.SetInfo(ctx, Info{PID: r.cmd.Process.Pid, Group: r.group})

	ready, cancel := context.WithTimeout(life, spec.ReadyTimeout)
	defer cancel()

	why := spec.Ready.wait(ready, r.matched)

	switch {
	case ctx.Err() != nil: // told to end while it started
		<-r.ended
		if err := r.verdict(); err != nil {
			return nil, err
		}
		return nil, ctx.Err()

	case why == nil: // it was ready; if it has ended since, Serve says how
		return r, nil

	case life.Err() != nil: // ended by itself before it was ready
		return nil, fmt.Errorf("process %s %w when it ended: %w", spec.Name, ErrNotReady, r.exit)

	default:
		quit()
		<-r.ended
		return nil, fmt.Errorf("process %s %w within %v: %w; then it was stopped: %w", spec.Name, ErrNotReady,
			spec.ReadyTimeout, why, r.exit)
	}
}

// Serve waits until the process has ended, and returns what verdict makes of its end. Meanwhile it
// runs the faults that Inject delivers. Even if a fault makes this goroutine hang, panic or exit,
// the process is stopped.
func (r *running) Serve(ctx context.Context) error {
	told := ctx.Done()
	for {
		select {
		case <-r.ended:
			return r.verdict()
		case f := <-supervisor.Faults(ctx):
			f.Do(ctx)
		case <-told:
			r.quit()
			told = nil
		}
	}
}

// String returns the name of the process, with its number.
func (r *running) String() string {
	return fmt.Sprintf("process %s (pid %d)", r.spec.Name, r.cmd.Process.Pid)
}

// verdict returns the result of Serve: context.Canceled if the process obeyed a stop, nil if it
// exited with status 0 by itself and Spec.ExitZero allows that, and otherwise the ExitError.
func (r *running) verdict() error {
	switch e := r.exit; {
	case e.obeyed(r.spec.TermSignal):
		return context.Canceled
	case !e.Asked && e.Status == 0 && r.spec.ExitZero == ExitZeroNormal:
		return nil
	default:
		return e
	}
}

// host runs in the thread that the process is a child of. The kernel would take the end of that
// thread for the parent's death, so host stays until the process has been reaped.
func (r *running) host(ctx, life context.Context, launched chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	if err := context.Cause(life); err != nil {
		launched <- err
		return
	}

	if err := r.fork(); err != nil {
		launched <- err
		return
	}

	left := make(chan struct{}, 2)
	spawn(ctx, func() { r.stopper(life) })
	spawn(ctx, func() { r.read(r.stdout, left, r.spec.Stdout) })
	spawn(ctx, func() { r.read(r.stderr, left, r.tail.add, r.spec.Stderr) })
	launched <- nil

	r.exit = &ExitError{Name: r.spec.Name, PID: r.cmd.Process.Pid}
	if awaitEnd(r.cmd.Process.Pid) {
		r.settle()
	}

	err := r.cmd.Wait()
	r.settle()
	if r.guard != nil {
		r.guard.reap()
	}

	r.drain(left)
	r.exit.read(r.cmd.ProcessState, err)
	r.exit.Asked, r.exit.Forced, r.exit.LastLines = r.asked, r.forced, r.tail.last()
	close(r.ended)
}

// spawn runs f as a goroutine of the incarnation. The caller is one too, so the incarnation cannot
// have ended.
func spawn(ctx context.Context, f func()) {
	if err := supervisor.Go(ctx, func(context.Context) error { f(); return nil }); err != nil {
		panic(err)
	}
}

// fork starts the guard, if there is one, and then the process.
func (r *running) fork() (err error) {
	var mine, theirs []io.Closer
	defer func() {
		closeAll(theirs)
		if err != nil {
			closeAll(mine)
			r.dispel()
		}
	}()

	r.cmd = exec.Command(r.spec.Path, r.spec.Args...)
	if r.spec.Argv0 != "" {
		r.cmd.Args[0] = r.spec.Argv0
	}

	r.cmd.Dir, r.cmd.Env = r.spec.Dir, append([]string{}, r.spec.Env...) // nil would inherit
	if err := r.place(); err != nil {
		return err
	}

	pipe := func() (in, out *os.File, err error) {
		in, out, err = os.Pipe()
		if err != nil {
			return nil, nil, fmt.Errorf("pipe: %w", err)
		}
		return in, out, nil
	}

	if !r.spec.NullStdin {
		in, out, err := pipe()
		if err != nil {
			return err
		}
		r.cmd.Stdin, r.stdin = in, out
		mine, theirs = append(mine, out), append(theirs, in)
	}

	in, out, err := pipe()
	if err != nil {
		return err
	}

	r.stdout, r.cmd.Stdout = in, out
	mine, theirs = append(mine, in), append(theirs, out)
	if in, out, err = pipe(); err != nil {
		return err
	}

	r.stderr, r.cmd.Stderr = in, out
	mine, theirs = append(mine, in), append(theirs, out)
	if err := r.cmd.Start(); err != nil {
		return err
	}

	r.placed()

	return nil
}

func closeAll(files []io.Closer) {
	for _, f := range files {
		f.Close()
	}
}

// settle notes that the process has ended, and ends what is left of its group.
func (r *running) settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	r.signal(syscall.SIGKILL)
	r.over = true
}

// drain waits until the readers have read what the process wrote, but no longer than DrainTime: a
// descendant may keep a pipe open.
func (r *running) drain(left <-chan struct{}) {
	timer := time.NewTimer(DrainTime)
	defer timer.Stop()

	for n := 0; n < cap(left); n++ {
		select {
		case <-left:
		case <-timer.C:
			n = cap(left)
		}
	}

	r.stdout.Close()
	r.stderr.Close()
	if r.stdin != nil {
		r.stdin.Close()
	}
}

// stopper asks the process to end when life is over, and kills it when Grace has passed.
func (r *running) stopper(life context.Context) {
	select {
	case <-r.ended:
		return
	case <-life.Done():
	}

	if !r.tell(r.spec.TermSignal, &r.asked) || r.spec.Grace == supervisor.Brutal {
		return
	}

	timer := time.NewTimer(r.spec.Grace)
	defer timer.Stop()

	select {
	case <-r.ended:
	case <-timer.C:
		r.tell(syscall.SIGKILL, &r.forced)
	}
}

// tell sends a signal to the process group and sets *note, unless the process has ended. It reports
// whether it sent the signal.
func (r *running) tell(sig syscall.Signal, note *bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return false
	}
	*note = true
	r.signal(sig)
	return true
}

// read hands on the lines of one stream until the stream ends, and then sends to left.
func (r *running) read(f *os.File, left chan<- struct{}, to ...func([]byte)) {
	defer func() { left <- struct{}{} }()
	lines(f, r.spec.MaxLine, func(line []byte) {
		for _, f := range to {
			if f != nil {
				f(line)
			}
		}
		r.match(line)
	})
}

func (r *running) match(line []byte) {
	if r.spec.Ready.line == nil {
		return
	}

	r.matching.Lock()
	defer r.matching.Unlock()

	if !r.isReady && r.spec.Ready.line(line) {
		r.isReady = true
		close(r.matched)
	}
}
