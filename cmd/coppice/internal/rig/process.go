package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Process is a run of "coppice start" as a child process. On Linux it does not outlive its parent.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and err is set
	err  error
}

// StartProcess runs bin with args, and writes its output to log. The child gets no signals from the
// terminal; its parent decides when it stops.
func StartProcess(bin string, log *os.File, args ...string) (*Process, error) {
	p := &Process{cmd: exec.Command(bin, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = childAttr()
	started := make(chan error)
	go func() {
		// The kernel sends the child its death signal when the thread that started it ends, so this
		// goroutine keeps that thread.
		runtime.LockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = p.cmd.Wait()
		close(p.done)
	}()

	if err := <-started; err != nil {
		return nil, fmt.Errorf("start the node: %w", err)
	}

	return p, nil
}

// Done returns a channel that is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit returns how the process ended, such as "exit status 6" or "signal: killed". It may be called
// only after Done is closed.
func (p *Process) Exit() string {
	if p.err == nil {
		return "exit status 0"
	}
	return p.err.Error()
}

// Crash ends the process by SIGKILL and waits for its end.
func (p *Process) Crash() {
	_ = p.cmd.Process.Kill() // it fails only if the process has ended
	<-p.done
}

// Stop asks the process to stop in order, by SIGTERM. If it has not stopped within limit, or when
// ctx ends, Stop kills it and returns an error.
func (p *Process) Stop(ctx context.Context, limit time.Duration) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); errors.Is(err, os.ErrProcessDone) {
		<-p.done
		return nil
	}

	late := time.NewTimer(limit)
	defer late.Stop()

	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("the node did not stop in order: %w", p.err)
		}
		return nil
	case <-late.C:
	case <-ctx.Done():
	}

	p.Crash()

	return fmt.Errorf("the node did not stop within %v of SIGTERM", limit)
}

// Signal sends a signal to the process. It returns an error if the process has ended.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// PID returns the id of the process, which may have ended.
func (p *Process) PID() int { return p.cmd.Process.Pid }
