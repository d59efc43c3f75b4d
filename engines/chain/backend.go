package chain

import (
	"errors"
	"time"
)

// Backend is user code that gives transactions their meaning.
//
// Execute must be deterministic: it may depend on its arguments and on what it reads through the
// view, and on nothing else — no clock, no randomness, no map order, no I/O. A Backend is shared by
// all workers, so it is safe for concurrent use and keeps no state of its own.
type Backend interface {
	// Name returns the name that Tx.Backend refers to: 1 to MaxBackendName bytes.
	Name() string

	// Check returns an error for a body that cannot be understood at all. It runs at submission and
	// reads no state. The submitter gets the error, and the transaction is not logged.
	Check(body []byte) error

	// Execute applies the body. If it returns no error, all writes of the view become part of the
	// state, and data is the transaction's result. If it returns an error or panics, the writes are
	// discarded, and the error or the panic is the transaction's result, the same on every node. It
	// is the transaction that fails then, not the node.
	Execute(v View, body []byte) (data []byte, err error)
}

// View is what a transaction sees of the replicated state: the writes of all versions before its
// own, and its own writes. The first read waits for the transaction's place in the order; writes
// never wait.
//
// If a method returns the error of a limit (one of those below, or ErrReservedKey), the transaction
// fails. Any other error is not the transaction's fault: the view then returns only errors, the
// result of Execute is ignored, and the transaction is executed again after the restart. A View
// belongs to the goroutine that runs Execute.
type View interface {
	Get(key []byte) (value []byte, found bool, err error)
	Put(key, value []byte) error
	Delete(key []byte) error

	// Version waits for the place in the order and returns it.
	Version() (Version, error)

	// BlockTime waits for the place in the order and returns the block's time, which is the only
	// clock that a transaction may use.
	BlockTime() (time.Time, error)

	// Emit adds an event to the transaction's result, after those emitted before. Events are for
	// readers outside of the chain: they are dropped if the transaction fails, no transaction can
	// read them, and the app hash does not cover them. Emit never waits, and counts as an
	// operation. A hook cannot emit.
	Emit(typ string, attributes ...Attribute) error

	// Step adds n to the units of work that the transaction has done. It returns ErrTooManySteps if
	// they exceed the limit of the genesis.
	Step(n uint64) error
}

// Errors of the limits that a view enforces. Execute returns them as its own. The transaction fails
// with Code_CODE_LIMIT even if Execute ignores them.
var (
	ErrTooManyOps   = errors.New("limit: too many operations")
	ErrTooManySteps = errors.New("limit: too many steps")
	ErrKeyTooLong   = errors.New("limit: key too long")
	ErrValueTooLong = errors.New("limit: value too long")
	ErrResultTooBig = errors.New("limit: result too big")
	ErrEmptyKey     = errors.New("key is empty")
	ErrBadEvent     = errors.New("limit: bad event")
)

// Limits of keys and values that hold on every chain.
const (
	MaxKeyBytes   = 4 << 10
	MaxValueBytes = 16 << 20
)

// Limits of a block that hold on every chain. They are needed because the outcome of a whole block
// is one record of the event log. MaxHookBytes is another one.
const (
	// MaxBlockTxs bounds the transactions of a block. Drivers neither make nor accept more.
	MaxBlockTxs = 50_000

	// MaxOutcomeBytes bounds the results and writes of all transactions of a block together. A
	// transaction that does not fit any more when its turn comes fails with Code_CODE_LIMIT and
	// writes nothing; it may be submitted again under another nonce. A change counts with its key,
	// its value and ChangeOverhead.
	MaxOutcomeBytes = 32 << 20
	ChangeOverhead  = 48

	// MaxResultLogBytes is the length at which the text of a result is cut. The text counts neither
	// toward the app hash nor toward MaxOutcomeBytes.
	MaxResultLogBytes = 512
)

// Versioned is a Backend that has had several versions. Raise the newest version whenever the same
// transactions, executed again from the beginning, would give other results or writes. A home
// records the versions that may have executed its transactions (backends.json), and a program whose
// range does not include all of them refuses to start or to verify.
type Versioned interface {
	Backend

	// Versions returns the oldest version whose transactions this one executes as that one did, and
	// its own version. Both are at least 1. A Backend without the method has version 1 only.
	Versions() (oldest, newest uint32)
}

// BackendVersions returns the versions of b.
func BackendVersions(b Backend) (oldest, newest uint32) {
	if v, ok := b.(Versioned); ok {
		return v.Versions()
	}
	return 1, 1
}
