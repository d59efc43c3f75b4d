//go:build unix && !linux

package process

import "syscall"

// dieWithParent has no such service here: see Spec.Guard and WatchParent.
func dieWithParent(*syscall.SysProcAttr) {}

// awaitEnd cannot wait without reaping here. The group is killed right after, in which time its
// number would have to be given away anew.
func awaitEnd(int) bool { return false }
