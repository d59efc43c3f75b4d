//go:build !linux

package eventlog

import "os"

// syncData is a full sync where there is no lesser one in the standard library; on Darwin it
// reaches the platter.
func syncData(f *os.File) error { return f.Sync() }
