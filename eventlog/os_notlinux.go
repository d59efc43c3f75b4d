//go:build !linux

package eventlog

import "os"

// syncData is a full sync, because the standard library has no cheaper one here. On Darwin it
// reaches the platter.
func syncData(f *os.File) error { return f.Sync() }
