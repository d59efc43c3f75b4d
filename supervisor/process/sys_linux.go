package process

import (
	"syscall"
	"unsafe"
)

// dieWithParent has the kernel kill the process when the thread that forks it ends.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// awaitEnd returns true when the process has ended, and leaves it unreaped, so that its number and
// that of its group are still its own.
func awaitEnd(pid int) bool {
	const byPID = 1 // P_PID
	var info [128]byte

	for {
		_, _, e := syscall.Syscall6(syscall.SYS_WAITID, byPID, uintptr(pid), uintptr(unsafe.Pointer(&info)),
			syscall.WEXITED|syscall.WNOWAIT, 0, 0)
		if e != syscall.EINTR {
			return e == 0
		}
	}
}
