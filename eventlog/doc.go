// Package eventlog is a durable, append-only log of records for one process.
//
// Records get indexes that begin at 1 and have no gap. Concurrent appends share one write and one
// sync (group commit), cursors read what is durable and wait for more, and the front is truncated
// no further than every named retainer allows. The bytes are in package
// [github.com/coppice-go/coppice/eventlog/segment]; this package decides when they are written,
// synced, recovered and removed. docs/eventlog.md draws the format.
//
// # Guarantees
//
//   - An append that was acknowledged is there after any crash of the process, the kernel or the
//     power, provided that the disk keeps what it said it had synced.
//   - What is recovered is a gap-free prefix of what was appended: everything acknowledged, and
//     possibly appends in flight at the crash, each call whole or not at all.
//   - Nobody is shown a record that is not durable, or bytes that fail their checksum.
//   - Damage is told from a torn tail. A bad frame before the end is refused with the file and the
//     offset ([CorruptError]); only a frame whose sync never returned is cut. A segment that is
//     missing is damage, the newest and the oldest too.
//   - After a failed write or sync the log appends nothing more ([ErrFailed]), and never tries the
//     sync again on the same file: the kernel may have dropped what it could not write.
//   - A full disk loses nothing that was acknowledged; opening again with room goes on.
//   - Memory is bounded: appenders wait while two batches are full.
//
// # Non-guarantees
//
//   - An append whose Wait ended by its context, or with ErrFailed, may or may not be there after
//     recovery. Its outcome is unknown, not negative.
//   - Damage inside the last frame of a log that was not closed cleanly looks like a torn write,
//     and is cut like one.
//   - An older copy of the whole directory looks like a shorter log, which it is. Whoever keeps
//     state derived from the log compares its applied index with [Recovery].LastIndex.
//   - The checksum finds accidents, not adversaries. There is no encryption.
//   - One process at a time: the directory is locked. There is no replication here.
package eventlog
