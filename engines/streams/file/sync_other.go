//go:build !linux

package file

import "os"

// datasync makes a file's bytes durable, and its size.
func datasync(f *os.File) error { return f.Sync() }
