//go:build unix && !linux

package rig

import "syscall"

// childAttr returns attributes that keep the terminal's signals from the child.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
