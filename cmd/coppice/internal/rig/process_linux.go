package rig

import "syscall"

// childAttr returns attributes that keep the terminal's signals from the child, and make the kernel
// kill it when its parent dies.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
