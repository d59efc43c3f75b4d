// Package vfs has disks that crash and fail, for tests of code that must survive that.
//
// [Adapt] gives a file system of pebble's vfs package, such as its crashable MemFS or its errorfs,
// the small interface that eventlog asks for. So a log and a pebble store can share one disk and
// one crash.
//
// [Disk] is a separate model that is stricter where a log has to be careful. Writes tear at sectors
// of 512 bytes. Each name in a directory survives a crash or not by itself. A failed sync leaves
// bytes in the page cache that never reach the disk. The disk can be full.
package vfs
