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

const isUnix = true

const (
	guardShell = "/bin/sh"
	// The guard must survive TermSignal, which goes to the whole group. It writes a line when it is
	// ready for that; only then is the process started.
	guardScript = `trap '' HUP INT QUIT TERM USR1 USR2 ALRM; echo; while read line; do :; done; kill -s KILL 0`
	guardStart  = 5 * time.Second
)

// guard is the process that kills its group when this process ends. It leads the group, so the
// group is guarded before any other process is in it.
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

// place sets the group in which the process will run: one of its own, or the guard's.
func (r *running) place() error {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if r.spec.PTY != nil { // a session of its own, whose controlling terminal is its stdout
		attr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 1}
	}

	var err error
	if attr.Credential, err = r.spec.credential(); err != nil {
		return err
	}

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

// signal sends sig to the group, and to the process if that has left the group, or to the process
// alone if Spec.Kill says so. It must be called with r.mu held and before r.over is set: until
// then, no other process or group can have got the same number. An error means that no process is
// left, and is ignored.
func (r *running) signal(sig syscall.Signal) {
	pid := r.cmd.Process.Pid
	if r.spec.Kill == KillProcess || r.spec.Kill == KillMixed && sig != syscall.SIGKILL {
		_ = syscall.Kill(pid, sig)
		return
	}

	_ = syscall.Kill(-r.group, sig)
	switch group, err := syscall.Getpgid(pid); {
	case err != nil || group == r.group: // gone, or signalled already; a second signal may mean something else
	case group == pid:
		_ = syscall.Kill(-pid, sig)
	default:
		_ = syscall.Kill(pid, sig)
	}
}

// enter returns why this process may not work in dir, or nil.
func enter(dir string) error {
	const search = 1 // X_OK
	if err := syscall.Access(dir, search); err != nil {
		return &os.PathError{Op: "chdir", Path: dir, Err: err}
	}
	return nil
}

// ownImage returns the path of a program for a shell, in whose eyes /proc/self is the shell itself.
func ownImage(path string) string {
	if path == "/proc/self/exe" {
		return fmt.Sprintf("/proc/%d/exe", os.Getpid())
	}
	return path
}

// dispel ends a guard whose process could not be started.
func (r *running) dispel() {
	if r.guard != nil {
		_ = syscall.Kill(-r.guard.cmd.Process.Pid, syscall.SIGKILL)
		r.guard.reap()
	}
}
