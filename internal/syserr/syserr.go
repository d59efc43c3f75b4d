// Package syserr tells errors of the operating system from what files hold.
package syserr

import (
	"errors"
	"syscall"
)

// Is reports whether an error of work on files comes from the operating system, such as a missing
// permission, a file system that is mounted read-only, or a full disk. Such an error says nothing
// about what the files hold. A file that is missing, or of another kind, is not such an error.
func Is(err error) bool {
	var sys syscall.Errno
	return errors.As(err, &sys) && sys != syscall.ENOENT && sys != syscall.ENOTDIR && sys != syscall.EISDIR
}
