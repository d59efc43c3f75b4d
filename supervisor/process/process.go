package process

import (
	"context"
	"errors"
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

// running is one process, from its start to its end. Some goroutines of the incarnation belong to
// it. The host forks the process, waits for it and reaps it. The stopper sends signals when the
// incarnation is told to end, even if Serve hangs or has panicked. Readers read the output, and the
// feeder runs Spec.Stdin.
type running struct {
	spec  Spec
	cmd   *exec.Cmd
	guard *guard
	group int

	stdin   *os.File // the end that only Spec.Stdin writes to
	outputs []output // the ends that are read

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

	left := make(chan struct{}, len(r.outputs))
	spawn(ctx, func() error { r.stopper(life); return nil })
	for _, out := range r.outputs {
		spawn(ctx, func() error { r.read(out, left); return nil })
	}
	if r.spec.Stdin != nil {
		spawn(ctx, func() error { return r.feed(life) })
	}
	launched <- nil

	r.exit = &ExitError{Name: r.spec.Name, PID: r.cmd.Process.Pid}
	if awaitEnd(r.cmd.Process.Pid) {
		r.settle()
	}

	err := r.cmd.Wait()
	r.disown()
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
func spawn(ctx context.Context, f func() error) {
	if err := supervisor.Go(ctx, func(context.Context) error { return f() }); err != nil {
		panic(err)
	}
}

// fork starts the guard, if there is one, and then the process.
func (r *running) fork() (err error) {
	var e ends
	defer func() {
		closeAll(e.theirs)
		if err != nil {
			closeAll(e.mine)
			r.dispel()
		}
	}()

	r.cmd = r.spec.command()
	if r.spec.Executable != nil {
		image, err := r.openImage()
		if err != nil {
			return err
		}
		defer image.Close()
	}
	if err := r.place(); err != nil {
		return err
	}
	if err := r.connect(&e); err != nil {
		return err
	}
	if err := r.cmd.Start(); err != nil {
		return r.explain(err)
	}

	r.placed()
	r.adopt()

	if err := r.spec.Limits.set(r.cmd.Process.Pid); err != nil {
		_ = r.cmd.Process.Kill() // it is reaped below in any case
		_ = r.cmd.Wait()
		r.disown()
		return err
	}

	return nil
}

func closeAll(files []io.Closer) {
	for _, f := range files {
		f.Close()
	}
}

// settle notes that the process has ended, and ends what is left of its group unless that is
// spared.
func (r *running) settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	if r.spec.Kill != KillProcess {
		r.signal(syscall.SIGKILL)
	}
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

	for _, out := range r.outputs {
		out.from.Close()
	}
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

// tell sends a signal, as Spec.Kill says to whom, and sets *note, unless the process has ended. It
// reports whether it sent the signal.
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

// feed runs Spec.Stdin and then ends the input of the process. The end of the process, or that of
// life, is no failure of Stdin.
func (r *running) feed(life context.Context) error {
	err := r.spec.Stdin(life, r.stdin)
	if r.spec.PTY != nil {
		_, _ = r.stdin.Write([]byte{endOfTransmission}) // the process has ended if it fails
	} else {
		r.stdin.Close()
	}

	if err == nil || life.Err() != nil || closed(err) {
		return nil
	}
	return fmt.Errorf("process %s: Stdin: %w", r.spec.Name, err)
}

// closed reports whether a write failed because nothing reads any more: the process has closed its
// input, or it has ended. A terminal says EIO.
func closed(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.EIO) || errors.Is(err, os.ErrClosed)
}

// endOfTransmission at the beginning of a line is the end of a terminal's input.
const endOfTransmission = 4

// read hands on the lines of one stream until the stream ends, and then sends to left.
func (r *running) read(out output, left chan<- struct{}) {
	defer func() { left <- struct{}{} }()
	lines(out.from, r.spec.MaxLine, func(line []byte) {
		for _, f := range out.to {
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
