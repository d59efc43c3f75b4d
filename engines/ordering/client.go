package ordering

import (
	"context"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Client is ordering as a consensus driver sees it. All its operations may be repeated, so that a
// driver that met engines.ErrDown asks Info where things stand and goes on from there.
type Client struct{ to engines.Address }

// NewClient returns a client of the ordering engine in dir. Calls wait for an incarnation to be
// there; a call that was taken by an incarnation that ended returns engines.ErrDown.
func NewClient(dir engines.Directory) Client {
	return Client{engines.NewAddress(dir, Name).With(engines.AwaitNext)}
}

// Info returns what is committed, and the block that was decided but is not committed.
func (c Client) Info(ctx context.Context) (chain.Standing, error) {
	return engines.Call(ctx, c.to, info{engines.SenderOf(ctx)})
}

// InitChain starts the chain. Repeating it changes nothing.
func (c Client) InitChain(ctx context.Context, rec *logv1.ChainStarted) (chain.State, error) {
	return engines.Call(ctx, c.to, initChain{engines.SenderOf(ctx), rec})
}

// Order logs the decision b, executes it and stages the outcome. If the same block is delivered
// again, Order returns the same; for a block that is committed already it returns only the app
// hash.
func (c Client) Order(ctx context.Context, b chain.Block) (chain.Staged, error) {
	return engines.Call(ctx, c.to, order{engines.SenderOf(ctx), b})
}

// Commit makes the staged block at height durable and final. It returns when the block is in the
// log and in the state.
func (c Client) Commit(ctx context.Context, height uint64) (chain.State, error) {
	return engines.Call(ctx, c.to, commit{engines.SenderOf(ctx), height})
}
