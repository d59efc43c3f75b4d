// Package storage holds the replicated state of a node: every key with its versions (MVCC), the ids
// of applied transactions until they expire, and the app hash that commits to both.
//
// The package has two layers. [DB] is the state, a plain type that needs no engine runtime, so
// tools and tests use it directly. The engine ([Child], [Client]) puts it behind a mailbox and a
// lease.
//
// # Truth
//
// The event log decides, and the state follows it. A commit takes a BlockCommitted that is durable
// in the log already and applies it in one atomic batch together with "applied = index of that
// record". The batch is not synced and there is no write-ahead log beneath it (docs/adr/0022): a
// crash takes the state back to the last flush, which is a block boundary, and [DB.Redo] brings it
// forward again from the log. A state behind the log is normal. A state ahead of the log is
// impossible, because nothing is applied before the log has it.
//
// # Guarantees
//
//   - Get, Result and Block return only committed data, nothing staged.
//   - Refusals and the app hash depend only on the block and the committed state, so they are the
//     same on every node (I2 and I3 in docs/architecture.md).
//   - Redo recomputes the app hash and refuses a record that does not lead to the app hash in it
//     (I4).
//   - A failure that Pebble reports (disk full, EIO, a bad checksum) is sticky: the DB returns
//     that error from then on and never continues.
//
// # Non-guarantees
//
//   - A commit is durable here only after a Flush; DurableApplied returns the index up to which it
//     is durable.
//   - Versions between those of two blocks are not kept: a read at a height sees the last write of
//     each block. The event log has the others.
//   - There are no proofs of single keys.
//
// # Layout
//
// Keys in Pebble begin with a byte that names their space. Numbers are big-endian, a version is
// chain.Version's 20 bytes, and ^version is their complement, so that newer versions come first.
//
//	'm' name                                 meta: "format", "chain", "state", "accumulator",
//	                                         "pruned", "log"
//	'k' key                                  latest:     version | value
//	'h' len(key) u16 | key | ^version        older:      1 | value, or 0 for a deletion
//	's' period u64 | height u64              superseded: (len(key) u16 | key | version)*, the
//	                                         older entries that no read at or after this
//	                                         height needs
//	'i' id                                   applied:    TxResult
//	'e' valid_until i64, sign flipped | id   expiry:     the id's leaf in the app hash
//	'b' period u64 | height u64              block:      log index u64 | time i64 | app hash |
//	                                         block hash
//	'n' name                                 node-local: any value, not in the app hash
//
// A point read of the latest value is one lookup. A write moves the value it replaces from 'k' to
// 'h'; a read at a height takes 'k' if it is old enough, and else the first entry of 'h' at or
// below that height. A deletion has no 'k'. The order of 'k' is the order of the keys, whatever
// bytes they hold; 'h' puts the length first so that no key is another's prefix.
package storage
