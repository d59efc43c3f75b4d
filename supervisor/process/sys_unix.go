//go:build unix

package process

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const canGuard = true

const (
	guardShell = "/bin/sh"
	// The guard must survive TermSignal, which the group gets; it says so before the process is
	// started.
	guardScript = `trap '' HUP INT QUIT TERM USR1 USR2 ALRM; echo; while read line; do :; done; kill -s KILL 0`
	guardStart  = 5 * time.Second
)

// guard is the process that kills its group when this process ends: nobody else can. It leads the
// group, so the group is guarded before there is anything in it.
type guard struct {
	cmd  *exec.Cmd
	pipe *os.File
}

func startGuard() (g *guard, err error) {
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()

	in, hold, err := os.Pipe()
	if err != nil {
		return nil, err
	}

	files = append(files, in)

	said, out, err := os.Pipe()
	if err != nil {
		hold.Close()
		return nil, err
	}

	files = append(files, said, out)
	cmd := exec.Command(guardShell, "-c", guardScript)
	cmd.Env, cmd.Dir, cmd.Stdin, cmd.Stdout = []string{}, "/", in, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}

	if err := cmd.Start(); err != nil {
		hold.Close()
		return nil, fmt.Errorf("guard: %w", err)
	}

	g = &guard{cmd: cmd, pipe: hold}
	out.Close()
	err = said.SetReadDeadline(time.Now().Add(guardStart))
	if err == nil {
		_, err = io.ReadFull(said, make([]byte, 1))
	}

	if err != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		g.reap()
		return nil, fmt.Errorf("guard: %s did not answer: %w", guardShell, err)
	}

	return g, nil
}

// reap waits for a guard that was sent SIGKILL with its group.
func (g *guard) reap() {
	_ = g.cmd.Wait() // always "signal: killed"
	g.pipe.Close()
}

// place says where the process will run: in a group of its own, or in the guard's.
func (r *running) place() error {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if r.spec.Guard {
		g, err := startGuard()
		if err != nil {
			return err
		}
		r.guard = g
		attr.Pgid = g.cmd.Process.Pid
	}

	dieWithParent(attr)
	r.cmd.SysProcAttr = attr

	return nil
}

func (r *running) placed() {
	r.group = r.cmd.Process.Pid
	if r.guard != nil {
		r.group = r.guard.cmd.Process.Pid
	}
}

// signal reaches the group, and the process if it has left that. It must be called with r.mu held
// and before r.over: until then neither the process nor its group can have been replaced by
// strangers of the same number. Errors mean that there is nobody who could be told.
func (r *running) signal(sig syscall.Signal) {
	_ = syscall.Kill(-r.group, sig)
	pid := r.cmd.Process.Pid
	switch group, err := syscall.Getpgid(pid); {
	case err != nil || group == r.group: // gone, or told; twice may mean something else than once
	case group == pid:
		_ = syscall.Kill(-pid, sig)
	default:
		_ = syscall.Kill(pid, sig)
	}
}

// dispel ends a guard whose process could not be started.
func (r *running) dispel() {
	if r.guard != nil {
		_ = syscall.Kill(-r.guard.cmd.Process.Pid, syscall.SIGKILL)
		r.guard.reap()
	}
}
