// Package vfs has disks that crash and fail, for tests of what must survive that.
//
// [Adapt] gives a file system of pebble's vfs package, its crashable MemFS and its errorfs for
// example, the small interface that eventlog asks for, so that a log and a pebble store can share
// one disk and one crash.
//
// [Disk] is a model of its own, stricter where a log has to be careful: sectors of 512 bytes are
// torn, each name of a directory survives or not by itself, a failed sync leaves bytes in the page
// cache that never reach the disk, and the disk can be full.
package vfs
