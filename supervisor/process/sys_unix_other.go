//go:build unix && !linux

package process

import "syscall"

// dieWithParent does nothing: this system has no such service. See Spec.Guard and WatchParent.
func dieWithParent(*syscall.SysProcAttr) {}

// awaitEnd reports false: this system cannot wait for a process without reaping it. The group is
// killed right after the reaping; its number would have to be reused within that time.
func awaitEnd(int) bool { return false }
