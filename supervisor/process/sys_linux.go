package process

import (
	"syscall"
	"unsafe"
)

// dieWithParent has the kernel kill the process when the thread that forks it ends.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// awaitEnd waits for the end of the process and reports whether it could. It leaves the process
// unreaped, so that its number and that of its group still belong to it.
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
