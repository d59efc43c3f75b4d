package mempool

import (
	"context"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Client is the pool as others see it. It is safe for concurrent use.
type Client struct {
	to     engines.Address
	config Config
}

// NewClient returns a client of the pool in dir. Submissions are decoded and checked against the
// backends in the caller's goroutine.
func NewClient(dir engines.Directory, backends map[string]chain.Backend) Client {
	return Client{engines.NewAddress(dir, Name), Config{Backends: backends}}
}

// Submit makes the transactions durable and answers each, in order, once all of them are. An error
// leaves all of them unknown; submitting them again is safe. The pool keeps txs.
func (c Client) Submit(ctx context.Context, txs [][]byte) ([]chain.Submitted, error) {
	q := submit{make([]candidate, len(txs))}
	for i, raw := range txs {
		q.txs[i] = c.config.examine(raw)
		q.txs[i].id = chain.HashTx(raw)
	}
	return engines.Call(ctx, c.to, q)
}

// Look answers what is known now of each id, in order.
func (c Client) Look(ctx context.Context, ids []chain.TxID) ([]chain.Ending, error) {
	return engines.Call(ctx, c.to, look{ids})
}

// Wait answers once each id that is known has ended. When ctx ends first it answers what is known
// by then, and no error.
func (c Client) Wait(ctx context.Context, ids []chain.TxID) ([]chain.Ending, error) {
	out, err := engines.Call(ctx, c.to, wait{ids})
	if err == nil || ctx.Err() == nil {
		return out, err
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	return c.Look(late, ids)
}

// Take answers the oldest transactions without a place, at most so many and so many bytes (but at
// least one), once there is one. They stay in the pool. It waits for a pool to be there.
func (c Client) Take(ctx context.Context, maxTxs, maxBytes int) ([][]byte, error) {
	return engines.Call(ctx, c.to.With(engines.Resend), take{maxTxs, maxBytes})
}

// Offer answers transactions without a place whose log index is above after, oldest first, at most
// so many and so many bytes (but at least one), and the index of the last of them; they stay in the
// pool. With wait it answers once there is one, and waits for a pool to be there.
func (c Client) Offer(ctx context.Context, after uint64, maxTxs, maxBytes int, wait bool) (txs [][]byte, last uint64,
	err error) {
	to := c.to
	if wait {
		to = to.With(engines.Resend)
	}
	o, err := engines.Call(ctx, to, offer{after, maxTxs, maxBytes, wait})
	return o.txs, o.last, err
}

// Check tells what a pool would have against raw, were the chain at that state and the clock at
// now. It asks nobody: what is repeated it does not know.
func (c Client) Check(raw []byte, chain chain.State, now time.Time) error {
	k := c.config.examine(raw)
	if k.err != nil {
		return k.err
	}
	return admissible(k, chain, now)
}

// Place has the transactions of a decided block executed, but for those with a refusal. It waits
// for a pool to be there.
func (c Client) Place(ctx context.Context, b chain.Block, refused []*logv1.TxResult) error {
	_, err := engines.Call(ctx, c.to.With(engines.AwaitNext), place{engines.SenderOf(ctx), b, refused})
	return err
}

// Committed tells the pool how the transactions of a block ended.
func (c Client) Committed(ctx context.Context, rec *logv1.BlockCommitted) error {
	return engines.Cast(ctx, c.to.With(engines.AwaitNext), committed{engines.SenderOf(ctx), rec})
}

// Stat is a picture of the pool.
func (c Client) Stat(ctx context.Context) (Stat, error) {
	return engines.Call(ctx, c.to, stat{})
}
