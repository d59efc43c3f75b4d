// Package portable exports the replicated state at a height as chunks that are the same on every
// node, and builds a state from them. CometBFT's state sync carries these chunks.
//
// A snapshot consists of a stream, which is cut into chunks of one size (the last may be shorter),
// and of its metadata:
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
// Numbers are big-endian. An importing node need not trust its peers, because everything in a
// snapshot is either part of the app hash or compared with data that does not come from a peer.
// Keys, values and ids give the app hash. The chain and the period must be those of the node's own
// genesis, and the clock must be the block's time.
//
// # Files
//
// A snapshot can also be a single file, for people to carry from machine to machine:
//
//	file  = head | (chunk)* | metadata | sum | len(metadata) u32 | "coppice end\n"
//	head  = "coppice state file\n" | version u32 | len(about) u32 | about |
//	        SHA-256 of the bytes before
//	sum   = SHA-256 of the metadata and the SHA-256 of the head
//
// about is JSON (About): what the snapshot's home knew beside the state, such as the genesis. Every
// byte is covered by a hash, so that a file that was cut off or changed is refused (ErrFile). That
// a whole file holds the state that it claims is known only after Build has made the state.
//
// # What a snapshot leaves out
//
//   - Old versions, and the versions of the latest keys. The app hash does not cover them. A node
//     that began with a snapshot cannot read below the snapshot's height, and there its keys have
//     that height as their version.
//   - The texts of results (TxResult.log). They are for people, and need not be the same on all
//     nodes.
//   - Entries of earlier blocks, and all node-local data.
//
// # How a chunk is checked
//
// The metadata lists the hashes of the chunks, and the hash of the metadata is the snapshot's hash.
// If a chunk does not have its hash, its sender is at fault (ErrChunk). If the chunks have their
// hashes but cannot be read, or give another app hash, the snapshot is at fault (ErrSnapshot).
package portable
