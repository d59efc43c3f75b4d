package rig

import "syscall"

// childAttr keeps the terminal's signals from the child, and has the kernel kill it when its parent
// dies.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
