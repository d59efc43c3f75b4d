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

// Process is one run of "coppice start" as a child process. It does not outlive its parent where
// the system can see to that.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed once it has ended and err is set
	err  error
}

// startProcess runs bin with args, and its output into log. A child gets no signal of the
// terminal's: its parent decides when it stops.
func startProcess(bin string, log *os.File, args ...string) (*Process, error) {
	p := &Process{cmd: exec.Command(bin, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = childAttr()
	started := make(chan error)
	go func() {
		// The kernel's death signal to the child is for the end of the thread that made it, so that
		// thread stays with it.
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

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit says how the process ended: "exit status 6", "signal: killed". Only after Done.
func (p *Process) Exit() string {
	if p.err == nil {
		return "exit status 0"
	}
	return p.err.Error()
}

// Crash ends the process by SIGKILL and waits for its end.
func (p *Process) Crash() {
	// It fails only for a process that has ended.
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Stop asks the process to stop in order, by SIGTERM. Past the limit, or when ctx ends, it is
// killed, which is an error.
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
