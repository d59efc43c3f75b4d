// Package file is the sink that writes to files: a line of JSON for each event.
//
// The directory of a sink holds LOCK, and files that are numbered from 1. A line is the envelope's
// JSON form with "seq", its number over all files, first and "crc", the CRC-32C of all bytes before
// it, last. A file begins with a head line, which says the epoch of the writer and where the sink
// stands. Each claim is a line too.
//
// # Guarantees
//
//   - A unit counts once its End is on the disk: Write returns after fdatasync. Readers that stop
//     at the last End see whole units.
//   - After a crash, Open cuts what follows the last whole unit. What was written since the last
//     sync is written once more, because a disk whose sync has failed may have lost what its cache
//     still shows.
//   - Damage before the end is told from a torn end, and refused with its file and offset.
//   - One writer: a lock of the operating system between processes, a lease inside one. There is no
//     clock.
//
// # Non-guarantees
//
//   - The lock holds on local file systems only. A sink on a network file system is not fenced.
package file
