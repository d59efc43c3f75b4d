// Package vfs has a disk that crashes and fails, for tests of what must survive that.
//
// [Disk] is stricter than most disks where a log has to be careful: sectors of 512 bytes are torn,
// each name of a directory survives or not by itself, a failed sync leaves bytes in the page cache
// that never reach the disk, and the disk can be full.
//
// [Contract] holds any file system to what eventlog.FS promises.
package vfs
