// Package postgres is the sink that writes to PostgreSQL.
//
// A slot has a schema with three tables. cursor has one row: where the sink stands, and the newest
// claim. blocks has a row for each unit, with its hashes, counts and digest. events has a row for
// each event: the key and the value as bytea, what a codec made of the value as jsonb beside them,
// and the other fields as jsonb.
//
// # Guarantees
//
//   - A unit is one transaction, which checks the epoch and moves the cursor: readers see whole
//     units, each once. While the sink catches up, several units share a transaction.
//   - The row of the cursor is locked for the length of a transaction. A claim ends the session of
//     an older writer that holds the lock and does not go on.
//   - An acknowledgment means that COMMIT returned with synchronous_commit on, by a server that has
//     fsync on.
//
// # Non-guarantees
//
//   - A server whose standby is promoted without what the primary had acknowledged goes back. The
//     slot finds that out by the cursor, and fills the sink again within its rewind margin.
package postgres
