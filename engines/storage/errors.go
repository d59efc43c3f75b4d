package storage

import "errors"

// Errors of a DB. Each is returned wrapped in an error that says what is wrong, where, and what was
// expected.
var (
	// errFailed: Pebble reported a failure (disk full, EIO, a bad checksum). The DB returns it
	// until the state is opened again.
	errFailed = errors.New("the state failed")

	// ErrInUse: another incarnation or another process has the state open.
	ErrInUse = errors.New("the state is in use")

	// ErrNone: there is no state to open for reading only.
	ErrNone = errors.New("there is no state")

	// ErrFormat: the directory does not hold a state that this version can read.
	ErrFormat = errors.New("not a state that this version can read")

	// ErrDamaged: the state contradicts itself. Start over from a snapshot, or from an empty state
	// and the whole log.
	ErrDamaged = errors.New("the state is damaged")

	// ErrChain: a record or block belongs to another chain or period, or no chain has started.
	ErrChain = errors.New("not this chain")

	// errHeight: a block is not the next one.
	errHeight = errors.New("not the next height")

	// errNotStaged: the block of the call, or the place in the block, is not being executed.
	errNotStaged = errors.New("not staged")

	// errNotReady: versions before the requested one have not finished.
	errNotReady = errors.New("earlier versions have not finished")

	// ErrAppHash: applying a record gave another app hash than the one in the record.
	ErrAppHash = errors.New("app hash differs")

	// ErrOtherLog: the state was made from another event log than the given one.
	ErrOtherLog = errors.New("the state belongs to another event log")

	// ErrNotCommitted: the requested height is not committed in this period.
	ErrNotCommitted = errors.New("height is not committed")

	// ErrClosed: the pinned state was closed, by itself or with the DB.
	ErrClosed = errors.New("the pinned state is closed")

	// ErrBuild: a Builder was given invalid data, or data in the wrong order.
	ErrBuild = errors.New("cannot build a state")

	// ErrPruned: the height is too old. The versions needed to read it have been removed.
	ErrPruned = errors.New("height is pruned")
)
