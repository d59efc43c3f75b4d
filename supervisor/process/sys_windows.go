package process

import "syscall"

const isUnix = false

// guard is empty, because there are no guards on Windows.
type guard struct{}

func (*guard) reap() {}

func (r *running) place() error { return nil }

func (r *running) placed() {}

// enter returns nil: the start itself finds out.
func enter(string) error { return nil }

// ownImage returns path.
func ownImage(path string) string { return path }

func (r *running) dispel() {}

// signal closes standard input to ask the process to end. For SIGKILL it kills the process alone.
func (r *running) signal(sig syscall.Signal) {
	if sig != syscall.SIGKILL {
		if r.stdin != nil {
			r.stdin.Close()
		}
		return
	}
	_ = r.cmd.Process.Kill() // if that fails, the process has ended
}

func awaitEnd(int) bool { return false }
