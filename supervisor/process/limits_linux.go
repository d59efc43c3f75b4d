package process

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

const canLimit = true

// The numbers of the limits that package syscall lacks.
const rlimitData = 2

// set gives the process its limits. A process that has ended needs none.
func (l Limits) set(pid int) error {
	for _, limit := range []struct {
		name   string
		number int
		value  uint64
		isSet  bool
	}{
		{"Memory", rlimitData, l.Memory, l.Memory > 0},
		{"Files", syscall.RLIMIT_NOFILE, l.Files, l.Files > 0},
		{"NoCore", syscall.RLIMIT_CORE, 0, l.NoCore},
	} {
		if !limit.isSet {
			continue
		}
		r := syscall.Rlimit{Cur: limit.value, Max: limit.value}
		_, _, e := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), uintptr(limit.number),
			uintptr(unsafe.Pointer(&r)), 0, 0, 0)
		if e != 0 && e != syscall.ESRCH {
			return fmt.Errorf("Limits: %s: %w", limit.name, e)
		}
	}

	return nil
}

// aboveExtraFiles is a number that no descriptor has that the process is started with: the
// process's copy of one would take the place of the program.
const aboveExtraFiles = 64

// openImage has the command execute Spec.Executable. The file that it returns must stay open until
// the process is started.
func (r *running) openImage() (*os.File, error) {
	raw, err := r.spec.Executable.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("Executable: %w", err)
	}

	var fd uintptr
	var errno syscall.Errno
	failed := raw.Control(func(own uintptr) {
		least := uintptr(max(aboveExtraFiles, 3+len(r.cmd.ExtraFiles)))
		fd, _, errno = syscall.RawSyscall(syscall.SYS_FCNTL, own, syscall.F_DUPFD_CLOEXEC, least)
	})
	if errno != 0 {
		failed = errno
	}
	if failed != nil {
		return nil, fmt.Errorf("Executable: %w", failed)
	}

	r.cmd.Path, r.cmd.Err = fmt.Sprintf("/proc/self/fd/%d", fd), nil
	if r.spec.Argv0 == "" {
		r.cmd.Args[0] = r.spec.Path
	}

	return os.NewFile(fd, r.cmd.Path), nil
}

// explainImage names the cause of a failed start of an open file.
func explainImage(path string, err error) error {
	if errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("%s: it is a script, or its interpreter is missing; expected a program: %w", path, err)
	}
	return fmt.Errorf("%s: %w", path, err)
}
