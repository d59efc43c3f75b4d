// Package vfs has a disk that crashes and fails, for tests of code that must survive that.
//
// [Disk] is stricter than most disks where a log has to be careful. Writes tear at sectors of 512
// bytes. Each name in a directory survives a crash or not by itself. A failed sync leaves bytes in
// the page cache that never reach the disk. The disk can be full.
//
// [Contract] tests whether a file system does what eventlog.FS promises.
package vfs
