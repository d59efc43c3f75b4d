package process

import (
	"io"
	"os"
)

// WatchParent ends this process, with status 0, when its standard input reaches its end: in a child
// that was started by this package, when its parent has ended (on Windows also when it is asked to
// stop). It is meant for a program that re-executes itself as a child, which calls it first of all
// and leaves standard input alone. It returns at once. Without a pipe there, as under a service
// manager that gives the null device, it ends the process at once.
func WatchParent() {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // an unreadable stdin is one without a parent behind it
		os.Exit(0)
	}()
}
