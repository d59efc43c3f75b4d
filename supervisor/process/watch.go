package process

import (
	"io"
	"os"
)

// WatchParent ends this process, with status 0, when its standard input reaches its end. In a child
// that this package started, that is when the parent has ended (on Windows also when the child is
// asked to stop). It is for a program that re-executes itself as a child. Such a program calls it
// before anything else and does not read standard input. WatchParent returns at once. If standard
// input is no pipe, as under a service manager that provides the null device, the process ends at
// once.
func WatchParent() {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // an unreadable stdin means that there is no parent
		os.Exit(0)
	}()
}
