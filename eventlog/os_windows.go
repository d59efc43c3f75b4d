package eventlog

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lockFile opens the file without sharing it.
func lockFile(name string) (*os.File, error) {
	const sharingViolation = syscall.Errno(32)
	p, err := syscall.UTF16PtrFromString(name)
	if err != nil {
		return nil, err
	}
	h, err := syscall.CreateFile(p, syscall.GENERIC_READ|syscall.GENERIC_WRITE, 0, nil, syscall.OPEN_ALWAYS,
		syscall.FILE_ATTRIBUTE_NORMAL, 0)

	if errors.Is(err, sharingViolation) {
		return nil, fmt.Errorf("%w: %s", ErrLocked, name)
	}
	if err != nil {
		return nil, &os.PathError{Op: "lock", Path: name, Err: err}
	}

	return os.NewFile(uintptr(h), name), nil
}

// syncDir does nothing, because NTFS journals names and a directory cannot be opened for syncing.
func syncDir(string) error { return nil }
