package storage

import "errors"

// Errors of a DB. Each comes wrapped with what is wrong, where, and what was expected.
var (
	// errFailed: Pebble reported a failure (disk full, EIO, a bad checksum). It is sticky; open the
	// state again.
	errFailed = errors.New("the state failed")

	// ErrInUse: another incarnation or another process has the state open.
	ErrInUse = errors.New("the state is in use")

	// ErrNone: there is no state to open for reading only.
	ErrNone = errors.New("there is no state")

	// ErrFormat: what is there is not a state of this version.
	ErrFormat = errors.New("not a state that this version can read")

	// ErrDamaged: what is there contradicts itself. Start over from a snapshot, or from an empty
	// state and the whole log.
	ErrDamaged = errors.New("the state is damaged")

	// ErrChain: a record or block belongs to another chain or period, or no chain has started.
	ErrChain = errors.New("not this chain")

	// errHeight: a block is not the next one.
	errHeight = errors.New("not the next height")

	// errNotStaged: the call is about a block, or a place in it, that is not being executed.
	errNotStaged = errors.New("not staged")

	// errNotReady: versions before the one asked about have not finished.
	errNotReady = errors.New("earlier versions have not finished")

	// ErrAppHash: applying a record led to another app hash than the record's.
	ErrAppHash = errors.New("app hash differs")

	// ErrOtherLog: the state was made of another event log than the one it is to follow.
	ErrOtherLog = errors.New("the state was made of another event log")

	// ErrNotCommitted: a read at a height that is not committed in this period.
	ErrNotCommitted = errors.New("height is not committed")

	// ErrClosed: what was pinned has ended, with the DB or by itself.
	ErrClosed = errors.New("what was pinned has ended")

	// ErrBuild: what was given to a Builder is not in order.
	ErrBuild = errors.New("no state can be built of this")

	// ErrPruned: a read at a height whose versions were removed.
	ErrPruned = errors.New("height is pruned")
)
