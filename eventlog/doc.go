// Package eventlog is a durable, append-only log of records for one process.
//
// Records get indexes that begin at 1 and have no gap. Concurrent appends share one write and one
// sync (group commit). Cursors read what is durable and wait for more. The front is truncated no
// further than every named retainer allows. Package
// [github.com/coppice-go/coppice/eventlog/segment] defines the bytes; this package decides when
// they are written, synced, recovered and removed. docs/eventlog.md draws the format.
//
// # Guarantees
//
//   - An acknowledged append is there after any crash of the process or the kernel and after any
//     power failure, if the disk keeps what it reported as synced.
//   - Recovery finds a gap-free prefix of what was appended: everything acknowledged, and possibly
//     appends that were in flight at the crash, each call whole or not at all.
//   - No reader gets a record that is not durable, or bytes that fail their checksum.
//   - Damage and a torn tail are told apart. A bad frame before the end is refused with the file
//     and the offset ([CorruptError]). Only a frame whose sync never returned is cut. A missing
//     segment is damage, even if it is the newest or the oldest.
//   - After a failed write or sync the log appends nothing more ([ErrFailed]). It never tries the
//     sync again on the same file, because the kernel may have dropped what it could not write.
//   - A full disk loses nothing that was acknowledged. The log can be opened again once there is
//     room.
//   - Memory is bounded: appenders wait while two batches are full.
//
// # Non-guarantees
//
//   - An append whose Wait ended by its context, or with ErrFailed, may or may not be there after
//     recovery. Its outcome is unknown, not negative.
//   - Damage inside the last frame of a log that was not closed cleanly looks like a torn write,
//     and is cut like one.
//   - An older copy of the whole directory looks like a shorter log, and it is one. A program that
//     keeps state derived from the log should compare its applied index with [Recovery].LastIndex.
//   - The checksum finds accidents, not adversaries. There is no encryption.
//   - One process at a time: the directory is locked. There is no replication here.
package eventlog
