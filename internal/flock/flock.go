// Package flock locks files against other processes. A lock belongs to the open file: it ends when
// the file is closed, and with the process at the latest.
package flock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ErrLocked reports that another open file has the lock.
var ErrLocked = errors.New("locked by another process")

// TryLock makes the file at path, if it is missing, and takes its lock. It does not wait. An error
// of opening the file is a *fs.PathError. The error is fs.ErrNotExist if the file was removed
// meanwhile: another process may lock a new one at the path.
func TryLock(path string) (*os.File, error) { return tryLock(path, os.O_CREATE) }

// TryLockExisting is TryLock for a file that it does not make.
func TryLockExisting(path string) (*os.File, error) { return tryLock(path, 0) }

func tryLock(path string, create int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|create|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}

	err = lock(f, unix.LOCK_EX)
	if err == nil {
		err = stillAt(path, f)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}

	return f, nil
}

// IsLocked reports whether another open file of the same name has the exclusive lock. It is false
// if that cannot be found out.
func IsLocked(f *os.File) bool {
	err := lock(f, unix.LOCK_SH)
	if err == nil {
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
	}
	return errors.Is(err, ErrLocked)
}

func lock(f *os.File, how int) error {
	for {
		switch err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err {
		case unix.EINTR:
		case unix.EWOULDBLOCK:
			return ErrLocked
		default:
			return err
		}
	}
}

// stillAt returns fs.ErrNotExist if f is not the file at path.
func stillAt(path string, f *os.File) error {
	ours, err := f.Stat()
	if err != nil {
		return err
	}
	there, err := os.Lstat(path)
	if err == nil && !os.SameFile(ours, there) {
		err = fs.ErrNotExist
	}

	return err
}
