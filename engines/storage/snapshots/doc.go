// Package snapshots keeps copies of a node's state in a directory. Each copy is complete, verified
// and durable before it gets its name.
//
// A snapshot consists of a checkpoint of the state (its tables are hard links where the file system
// supports them) and a manifest that describes it:
//
//	<dir>/<period>-<height>-<index>/
//	    snapshot.json     the Manifest; written last
//	    *.sst MANIFEST-* OPTIONS-* marker.*    a Pebble database, as package storage lays it out
//	<dir>/tmp-*           an unfinished snapshot; Settle removes it
//
// # How a snapshot is taken
//
//	flush · checkpoint to tmp-<id> · open it read-only · scan it and recompute the app hash ·
//	hash every file · write the manifest · sync it and the directory · rename · sync <dir>
//
// So every snapshot that List returns was verified. A crash at any step leaves either nothing or a
// tmp- directory, which is removed at the next start. A caller that truncates the event log because
// of a snapshot does so after Take has returned.
//
// # How a snapshot is installed
//
//	verify · copy to <state>.new, by links · bind it to the log · sync ·
//	rename <state> to <state>.old · rename <state>.new to <state> · sync
//
// Recover, called before the state is opened, completes or undoes an installation that a crash
// interrupted. A state is never missing, and the old one stays until Discard.
package snapshots
