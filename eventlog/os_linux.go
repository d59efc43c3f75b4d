package eventlog

import (
	"os"
	"syscall"
)

// syncData is fdatasync.
func syncData(f *os.File) error {
	var err error
	for {
		// A signal may interrupt the call before it did anything. Only that case is tried again.
		if err = syscall.Fdatasync(int(f.Fd())); err != syscall.EINTR {
			break
		}
	}

	if err != nil {
		return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
	}
	return nil
}

// StartSync begins to write bytes out and does not wait. It hides no error from the Sync that
// follows, because the kernel reports errors only to calls that wait.
func (f osFile) StartSync(off, n int64) {
	const write = 2 // SYNC_FILE_RANGE_WRITE
	conn, err := f.SyscallConn()
	if err != nil {
		return // closed
	}
	_ = conn.Control(func(fd uintptr) { _ = syscall.SyncFileRange(int(fd), off, n, write) }) // fails if it was closed
}
