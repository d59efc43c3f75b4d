// Package segment defines the bytes of the event log: the header of a segment file, frames, and the
// records in them. It neither opens files nor decides when anything is written or synced; package
// eventlog does. docs/eventlog.md draws the format.
//
// A segment file is one [Header] of 4 KiB and then frames, each at a multiple of 8 bytes. A frame
// holds a run of records with consecutive indexes and is valid whole or not at all. Integers are
// little-endian.
//
// Checksums are CRC-32C with an initial value derived from the log's identity, the segment's number
// and its first index. Therefore bytes that an older segment left in a recycled file never validate
// in a newer one. Each frame header holds 24 more bits, keyed the same way, over its own fields and
// its place in the file. They make a length trustworthy before it is followed. They also let a
// search for frames in a damaged file reject everything else, hostile record contents included, in
// a few nanoseconds for each candidate.
package segment
