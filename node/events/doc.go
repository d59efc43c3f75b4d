// Package events is the stream of what happens in a node: the records of its event log and the
// events of its supervision tree.
//
// The two have different natures. Records are kept: a stream reads them from the log, by cursor, so
// that whoever comes back with the cursor of the last event it saw misses none and sees none twice.
// Events of the tree are in no log: they are live. They come from the host's observer, which lies
// outside of the node, because an operator looks just then when the node is down; a bounded ring
// holds the newest, and a reader that is too slow is told how many it has missed.
//
// # Guarantees
//
//   - Records come in order, each once, those that the filter matches. Nothing but the filter
//     leaves one out.
//   - A stream stays open while the node, or anything in it, is down, and goes on with the log when
//     that is back.
//   - Nothing is held for a slow reader: it makes its own stream wait, and nobody else.
//
// # Non-guarantees
//
//   - An order between a record and an event of the tree.
//   - Events of the tree while no stream is open, or that a slow reader has let pass; Dropped
//     counts the latter.
package events
