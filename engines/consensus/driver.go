// Package consensus defines what a consensus driver is: the engine that decides which block comes
// next. A node has one driver. The driver works on the transaction core, the engines that log,
// order, execute and store. It may be cut off from the core at any instant. It then asks for the
// committed state and continues from there. The driver never decides what is true; the event log
// does.
//
// A Kind is what a program ships and registers: it makes drivers, and describes everything else
// that differs from one consensus to another.
package consensus

import (
	"context"
	"errors"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// Driver makes the supervised service of a consensus engine over the transaction core.
type Driver interface {
	// Name returns the name of the kind, which status shows.
	Name() string

	// Start returns a supervisor.StartFunc that drives core.
	Start(core Core) supervisor.StartFunc
}

// Core holds the interfaces of the transaction core that a driver calls.
type Core struct {
	Ordering Ordering
	Pool     Pool

	// Genesis is the record that starts the chain.
	Genesis *logv1.ChainStarted

	// Feed offers the transactions of the pool, like Pool, to a driver that has a mempool of its
	// own.
	Feed Feed

	// State reads the committed state without waiting for the engines.
	State State

	// StateSync, if set, gives snapshots to peers and takes snapshots from them.
	StateSync StateSync

	// Peers are the other nodes of the chain that the configuration names.
	Peers []Peer

	// Joiner, if set, brings a node that was left behind to a later epoch.
	Joiner Joiner
}

// Ordering orders and commits blocks. Every call may be repeated. After engines.ErrDown the caller
// does not know whether the call took effect, and asks Info. Calls wait while the core restarts.
type Ordering interface {
	Info(ctx context.Context) (chain.Standing, error)
	InitChain(ctx context.Context, rec *logv1.ChainStarted) (chain.State, error)
	Order(ctx context.Context, b chain.Block) (chain.Staged, error)
	Commit(ctx context.Context, height uint64) (chain.State, error)

	// CommitLater begins the commit of the staged block at height, and returns the state that the
	// chain has once the block is committed, without Index. The next block may be ordered on it at
	// once. The commit goes on by itself; Commit of the same height waits for its end. It is for a
	// driver that decides alone: nothing that follows from the block may leave the node before
	// Commit has returned.
	CommitLater(ctx context.Context, height uint64) (chain.State, error)

	// Reset ends the chain whose reset is due (chain.State.InHold), and returns the record of the
	// end. From then on only InitChain with a start of the next epoch is accepted.
	Reset(ctx context.Context, with chain.Renewal) (*logv1.ChainReset, error)
}

// Pool offers transactions.
type Pool interface {
	// Take waits for a transaction without a place, and returns the oldest such transactions: at
	// most maxTxs transactions and maxBytes bytes. They stay in the pool until they have a place.
	Take(ctx context.Context, maxTxs, maxBytes int) ([][]byte, error)
}

// Feed offers the pool's transactions to a driver that has a mempool of its own.
type Feed interface {
	// Offer returns the oldest transactions without a place whose log index is above after, and the
	// index of the last one. It returns at most maxTxs transactions and maxBytes bytes, but at
	// least one transaction if there is any. If wait is set, Offer waits for one.
	Offer(ctx context.Context, after uint64, maxTxs, maxBytes int, wait bool) (txs [][]byte, last uint64, err error)

	// Check returns why the node would refuse raw if it were submitted now, with the chain in the
	// given state, or nil if the node would accept it. It reads no state and waits for nothing.
	Check(raw []byte, chain chain.State, now time.Time) error

	// Recheck is Check for a transaction that Check has accepted before, of the same chain. It only
	// looks at what time may have changed.
	Recheck(raw []byte, chain chain.State, now time.Time) error

	// Sender returns the sender that raw names, and its bounds (chain.Bounded). An empty sender has
	// none. It is cheap beside Check, which may not accept raw.
	Sender(raw []byte) (sender string, most chain.Bounds)

	// Premature reports whether a block of the given time must not have raw (chain.Deferred). It
	// depends on its arguments alone, so all nodes judge alike.
	Premature(raw []byte, at time.Time) bool
}

// State reads the committed state. It fails fast while that state is not available.
type State interface {
	// Get reads a key at a committed height, or at the latest if height is 0. It returns the height
	// that it read.
	Get(ctx context.Context, key []byte, height uint64) (value []byte, found bool, at uint64, err error)

	// Results returns the results of the transactions that were applied and are remembered, and nil
	// for the others.
	Results(ctx context.Context, ids []chain.TxID) ([]*logv1.TxResult, error)
}

// ErrFinal marks an error that no restart mends: it has ended a driver, or it refuses the driver's
// start. With such an error the node ends at once, instead of after all the restarts that the tree
// allows. The Class of the error says what else it means.
var ErrFinal = errors.New("no restart mends it")
