//go:build unix && !linux

package rig

import "syscall"

// childAttr keeps the terminal's signals from the child.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
