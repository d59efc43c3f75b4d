//go:build unix && !linux

package process

import "syscall"

// dieWithParent does nothing: this system has no such service. See Spec.Guard and WatchParent.
func dieWithParent(*syscall.SysProcAttr) {}

// awaitEnd returns false, because this system cannot wait for a process without reaping it. So the
// group is killed right after the reaping. That would hit another group only if the system gave its
// number away within that time.
func awaitEnd(int) bool { return false }
