// Package portable exports the replicated state at a height as chunks that are the same on every
// node, and builds a state from them. CometBFT's state sync carries these chunks.
//
// A snapshot is a stream, cut into chunks of one size (the last may be shorter), and its metadata:
//
//	stream    = "coppice state\n"
//	            (uvarint len(key) | key | uvarint len(value) | value)*
//	            (id 32 | version 20 | uvarint code | varint valid_until ms |
//	            uvarint len(data) | data)*
//	metadata  = "coppice snapshot" | format u32 | len(chain) u8 | chain |
//	            period u64 | height u64 | app hash 32 | clock i64 |
//	            keys u64 | ids u64 | bytes u64 |
//	            chunk size u32 | chunks u32 | (SHA-256 of a chunk)*
//	hash      = SHA-256 of the metadata
//
// The stream has every latest key, in the order of the bytes, and then every remembered id, in
// order.
//
// Numbers are big-endian. Whatever it holds is either in the app hash or compared with something
// that is not a peer's word, so that what is imported need not be believed: keys, values and ids
// give the app hash, chain and period are the importing node's own genesis's, and the clock is the
// block's time.
//
// # What is not in it
//
//   - Old versions, and the versions of the latest keys: nothing below the snapshot's height can be
//     read on a node that began with it, and the app hash does not vouch for them. Keys have the
//     snapshot's height as their version there.
//   - The texts of results (TxResult.log): they are for people, and need not be the same on all
//     nodes.
//   - Entries of earlier blocks, and whatever is a node's own.
//
// # How a chunk is checked
//
// The metadata lists the chunks' hashes, and its own hash is the snapshot's. A chunk with another
// hash is its sender's fault (ErrChunk). Chunks that have their hashes and cannot be read, or give
// another app hash, are the snapshot's fault (ErrSnapshot).
package portable
