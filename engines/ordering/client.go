package ordering

import (
	"context"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Client is how a consensus driver calls the ordering engine. All its operations may be repeated. A
// driver that got engines.ErrDown calls Info and goes on from the state that it returns.
type Client struct{ to engines.Address }

// NewClient returns a client of the ordering engine in dir. If the engine is down, a call waits for
// its next incarnation. A call that the engine had already accepted when it ended is not repeated:
// it returns engines.ErrDown.
func NewClient(dir engines.Directory) Client {
	return Client{engines.NewAddress(dir, Name).With(engines.AwaitNext)}
}

// Info returns what is committed, and the block that was decided but is not committed.
func (c Client) Info(ctx context.Context) (chain.Standing, error) {
	return engines.Call(ctx, c.to, info{engines.SenderOf(ctx)})
}

// InitChain starts the chain, or its next epoch after Reset, and returns its state. Repeating it
// changes nothing. In a later epoch, the genesis of epoch 0 counts as a repetition.
func (c Client) InitChain(ctx context.Context, rec *logv1.ChainStarted) (chain.State, error) {
	return engines.Call(ctx, c.to, initChain{engines.SenderOf(ctx), rec})
}

// Order logs the decision b, executes the block, stages the outcome and returns it. If the same
// block is delivered again, Order returns the same outcome. For a block that is committed already
// it returns only the app hash.
func (c Client) Order(ctx context.Context, b chain.Block) (chain.Staged, error) {
	return engines.Call(ctx, c.to, order{engines.SenderOf(ctx), b})
}

// CommitLater begins the commit of the staged block at height, and returns the state of the chain
// after it, without the index of its record. The next block may be ordered on it at once. The
// commit goes on by itself; Commit of the same height waits for its end. At most one block is being
// committed: CommitLater first waits for the block before.
func (c Client) CommitLater(ctx context.Context, height uint64) (chain.State, error) {
	return engines.Call(ctx, c.to, commitLater{engines.SenderOf(ctx), height})
}

// Commit makes the staged block at height durable and final, and returns the new state of the
// chain. It returns when the block is in the log and in the state.
func (c Client) Commit(ctx context.Context, height uint64) (chain.State, error) {
	return engines.Call(ctx, c.to, commit{engines.SenderOf(ctx), height})
}

// Reset ends the chain whose reset is due, and returns the record of the end, which is then durable
// in the log. Repeating it changes nothing. The error is chain.ErrNoReset if no reset is due. Next
// comes InitChain with the record that chain.StartedBy makes of it.
func (c Client) Reset(ctx context.Context, with chain.Renewal) (*logv1.ChainReset, error) {
	return engines.Call(ctx, c.to, end{engines.SenderOf(ctx), with})
}
