// Package consensus says what a consensus driver is: the engine that decides which block comes next. There is one per
// node. A driver may be cut off from the transaction core at any instant; it then asks where things stand and goes on from
// there. It never decides what is true: the event log does.
package consensus

import (
	"context"

	"github.com/coppice-go/coppice/engines"
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
}

// Ordering orders and commits blocks. All of it may be repeated. An error that is engines.ErrDown leaves open what was done:
// ask Info. Calls wait while the core restarts.
type Ordering interface {
	Info(ctx context.Context) (engines.Standing, error)
	InitChain(ctx context.Context, rec *logv1.ChainStarted) (engines.ChainState, error)
	Order(ctx context.Context, b engines.Block) (engines.Staged, error)
	Commit(ctx context.Context, height uint64) (engines.ChainState, error)
}

// Pool offers transactions.
type Pool interface {
	// Take answers the oldest transactions without a place once there is one, at most so many and so many bytes. They stay in
	// the pool until they have a place.
	Take(ctx context.Context, maxTxs, maxBytes int) ([][]byte, error)
}
