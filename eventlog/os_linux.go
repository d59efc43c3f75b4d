package eventlog

import (
	"os"
	"syscall"
)

func syncData(f *os.File) error {
	var err error
	for {
		// A signal may interrupt the call before it did anything; only that is tried again.
		if err = syscall.Fdatasync(int(f.Fd())); err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
	}
	return nil
}
