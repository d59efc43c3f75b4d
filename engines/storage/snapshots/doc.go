// Package snapshots keeps copies of a node's state in a directory, each one whole, verified and
// durable before it has its name.
//
// A snapshot is a checkpoint of the state (its tables are hard links where the file system has
// them) and a manifest that says what it is:
//
//	<dir>/<period>-<height>-<index>/
//	    snapshot.json     the Manifest; written last
//	    *.sst MANIFEST-* OPTIONS-* marker.*    a Pebble database, as package storage lays it out
//	<dir>/tmp-*           one that was not finished; Settle removes it
//
// # How one is taken
//
//	flush · checkpoint to tmp-<id> · open it read-only · scan it and recompute the app hash ·
//	hash every file · write the manifest · sync it and the directory · rename · sync <dir>
//
// So whatever is listed was verified, and a crash at any step leaves either nothing or a tmp- that
// is removed at the next start. A caller that truncates the event log because of a snapshot does
// so after Take has returned.
//
// # How one is installed
//
//	verify · copy to <state>.new, by links · bind it to the log · sync ·
//	rename <state> to <state>.old · rename <state>.new to <state> · sync
//
// Recover, called before the state is opened, completes or undoes an installation that a crash cut
// short: a state is never missing, and the old one stays until Discard.
package snapshots
