// Package consensus says what a consensus driver is: the engine that decides which block comes
// next. There is one per node. A driver may be cut off from the transaction core at any instant; it
// then asks where things stand and goes on from there. It never decides what is true: the event log
// does.
package consensus

import (
	"context"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// Driver makes the supervised service of a consensus engine over the transaction core.
type Driver interface {
	// Name is the kind that configuration and status show.
	Name() string

	// Start is a supervisor.StartFunc over core.
	Start(core Core) supervisor.StartFunc
}

// Core is what a driver drives.
type Core struct {
	Ordering Ordering
	Pool     Pool

	// Genesis starts the chain.
	Genesis *logv1.ChainStarted

	// Feed is the pool once more, for a driver that spreads transactions by itself.
	Feed Feed

	// State is what is committed, read beside the engines.
	State State

	// StateSync, if set, gives snapshots to peers and takes them.
	StateSync StateSync
}

// Ordering orders and commits blocks. All of it may be repeated. An error that is engines.ErrDown
// leaves open what was done: ask Info. Calls wait while the core restarts.
type Ordering interface {
	Info(ctx context.Context) (chain.Standing, error)
	InitChain(ctx context.Context, rec *logv1.ChainStarted) (chain.State, error)
	Order(ctx context.Context, b chain.Block) (chain.Staged, error)
	Commit(ctx context.Context, height uint64) (chain.State, error)
}

// Pool offers transactions.
type Pool interface {
	// Take answers the oldest transactions without a place once there is one, at most so many and
	// so many bytes. They stay in the pool until they have a place.
	Take(ctx context.Context, maxTxs, maxBytes int) ([][]byte, error)
}

// Feed offers the pool's transactions to a driver that has a mempool of its own.
type Feed interface {
	// Offer answers transactions without a place that came to the log after the record of index
	// after: the oldest, at most so many and so many bytes (but at least one), and the index of the
	// last. With wait it answers once there is one, else an empty offer if there is none.
	Offer(ctx context.Context, after uint64, maxTxs, maxBytes int, wait bool) (txs [][]byte, last uint64, err error)

	// Check tells what the node would have against raw if it were submitted at a time when the
	// chain stood so. It reads no state and waits for nobody.
	Check(raw []byte, chain chain.State, now time.Time) error
}

// State reads what is committed. It fails fast while the state is not there.
type State interface {
	// Get reads a key at a committed height, 0 for the latest, and answers the height it read at.
	Get(ctx context.Context, key []byte, height uint64) (value []byte, found bool, at uint64, err error)

	// Results are those of the transactions that were applied and are remembered, nil for others.
	Results(ctx context.Context, ids []chain.TxID) ([]*logv1.TxResult, error)
}
