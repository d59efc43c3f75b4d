//go:build !linux

package process

import "os"

// Self returns values for Spec.Path and Spec.Argv0 with which the process is this program again.
// Except on Linux, it is the file at this program's path at that time. Self returns an error if the
// path cannot be found.
func Self() (path, argv0 string, err error) {
	path, err = os.Executable()
	return path, path, err
}
