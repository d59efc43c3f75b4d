//go:build !linux

package process

import "os"

// Self returns what to give Spec.Path and Spec.Argv0 so that the process is this program again.
// Elsewhere than on Linux that is whatever lies at its path by then. Errors are those of finding
// the file.
func Self() (path, argv0 string, err error) {
	path, err = os.Executable()
	return path, path, err
}
