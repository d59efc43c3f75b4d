// Package flock locks files against other processes. A lock belongs to the open file. It ends when
// the file is closed, and so at the latest when the process ends.
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

// TryLock takes the lock of the file at path, and first makes the file if it is missing. It does
// not wait: if the lock is taken, it returns an error that wraps ErrLocked. It returns one that
// wraps fs.ErrNotExist if the file was removed meanwhile, because another process may then lock a
// new file at the same path. If the file cannot be opened, the error is a *fs.PathError.
func TryLock(path string) (*os.File, error) { return tryLock(path, os.O_CREATE) }

// TryLockExisting does the same as TryLock, but does not make a missing file.
func TryLockExisting(path string) (*os.File, error) { return tryLock(path, 0) }

// TryLockPassing does the same as TryLock for a file that is removed or renamed by the process that
// has its lock. It tries again if that has just happened.
func TryLockPassing(path string) (*os.File, error) {
	const attempts = 10
	for i := 1; ; i++ {
		f, err := TryLock(path)
		if i == attempts || !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
}

// TryLockToRead does the same as TryLockExisting, but needs no permission to write the file. A file
// system that is mounted read-only has locks, too.
func TryLockToRead(path string) (*os.File, error) { return lockAt(path, os.O_RDONLY) }

func tryLock(path string, create int) (*os.File, error) { return lockAt(path, os.O_RDWR|create) }

func lockAt(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags|unix.O_NOFOLLOW, 0o600)
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

// IsLocked reports whether another open file of the same name holds the exclusive lock. It returns
// false if it cannot find that out.
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

// stillAt returns nil if f is the file that is at path now, and fs.ErrNotExist if it is not.
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
