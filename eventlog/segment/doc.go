// Package segment is the bytes of the event log: the header of a segment file, frames, and the
// records in them. It neither opens files nor decides when anything is written or synced; that is
// package eventlog. docs/eventlog.md draws what is here.
//
// A segment file is one [Header] of 4 KiB and then frames, each at a multiple of 8 bytes. A frame
// holds a run of records with consecutive indexes and is valid whole or not at all. Integers are
// little-endian.
//
// Checksums are CRC-32C that begin at a value drawn from the log's identity, the segment's number
// and its first index, so bytes left in a recycled file by an older segment never validate in a
// newer one. Each frame header holds 24 more bits over its own fields and its place in the file,
// keyed alike. They make a length trustworthy before it is followed, and let a search for frames in
// a damaged file pass over everything else, hostile record contents included, at a few nanoseconds
// for each candidate.
package segment
