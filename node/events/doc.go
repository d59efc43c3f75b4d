// Package events streams what happens in a node: the records of its event log and the events of its
// supervision tree.
//
// The two differ. Records are kept: a stream reads them from the log, by cursor. A reader that
// comes back with the cursor of the last event it saw misses no record and sees none twice. Events
// of the tree are in no log: they are live. They come from the host's observer, which is outside of
// the node, because operators look at the tree when the node is down. A ring of fixed size holds
// the newest events, and a reader that is too slow is told how many it has missed.
//
// # Guarantees
//
//   - A stream sends the records that its filter matches, in order and each once. Only the filter
//     leaves out records.
//   - A stream stays open while the node, or a part of it, is down. It continues with the log when
//     the log is back.
//   - Nothing is kept for a slow reader, which slows down only its own stream.
//
// # Non-guarantees
//
//   - No order is guaranteed between a record and an event of the tree.
//   - Events of the tree are lost while no stream is open, and when a reader is too slow; Dropped
//     counts the latter.
package events
