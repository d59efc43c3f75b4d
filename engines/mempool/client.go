package mempool

import (
	"cmp"
	"context"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Client is how the rest of the node calls the pool. It is safe for concurrent use.
type Client struct {
	to     engines.Address
	config Config
	defers bool // a backend is a chain.Deferred
	bounds bool // a backend is a chain.Bounded
}

// NewClient returns a client of the pool in dir. Submissions are decoded and checked against the
// backends in the caller's goroutine.
func NewClient(dir engines.Directory, backends map[string]chain.Backend) Client {
	c := Client{to: engines.NewAddress(dir, Name), config: Config{Backends: backends}}
	for _, b := range backends {
		if _, ok := b.(chain.Deferred); ok {
			c.defers = true
		}
		if _, ok := b.(chain.Bounded); ok {
			c.bounds = true
		}
	}
	return c
}

// Submit makes the transactions durable. When all of them are, it returns an answer for each, in
// order. After an error it is unknown which of them are durable; submitting them again is safe. The
// pool keeps txs, so the caller must not change it afterwards.
func (c Client) Submit(ctx context.Context, txs [][]byte) ([]chain.Submitted, error) {
	// While the pool restarts, clients ask again and again. To decode all that they send would take
	// processor time from the restart.
	if err := c.to.Up(); err != nil {
		return nil, err
	}

	q := submit{make([]candidate, len(txs))}
	bounded := false
	for i, raw := range txs {
		q.txs[i] = c.config.decode(raw)
		q.txs[i].id = chain.HashTx(raw)
		q.txs[i].from, q.txs[i].most = c.config.senderOf(q.txs[i].tx)
		_, ok := c.config.Backends[q.txs[i].tx.Backend].(chain.Bounded)
		bounded = bounded || ok
	}

	if bounded {
		// A sender at its bound is refused before its signature is verified, which costs most.
		refused, err := engines.Call(ctx, c.to, hopeless{q.txs})
		if err != nil {
			return nil, err
		}
		for i, err := range refused {
			q.txs[i].err = cmp.Or(q.txs[i].err, err)
		}
		if out, all := allRefused(q.txs); all {
			return out, nil
		}
	}
	for i, k := range q.txs {
		q.txs[i] = c.config.examine(k)
	}

	return engines.Call(ctx, c.to, q)
}

// allRefused returns the answers to candidates of which each is refused, and whether that is so.
func allRefused(txs []candidate) ([]chain.Submitted, bool) {
	out := make([]chain.Submitted, len(txs))
	for i, c := range txs {
		if c.err == nil {
			return nil, false
		}
		out[i] = chain.Submitted{ID: c.id, Err: c.err}
	}
	return out, true
}

// Look returns what the node knows now about each id, in order.
func (c Client) Look(ctx context.Context, ids []chain.TxID) ([]chain.Ending, error) {
	return engines.Call(ctx, c.to, look{ids})
}

// Wait waits until all those of the ids that the node knows have ended, and returns what it knows
// about each id, in order. If ctx ends first, Wait returns what is known by then, and no error.
func (c Client) Wait(ctx context.Context, ids []chain.TxID) ([]chain.Ending, error) {
	out, err := engines.Call(ctx, c.to, wait{ids})
	if err == nil || ctx.Err() == nil {
		return out, err
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	return c.Look(late, ids)
}

// Take waits for a transaction without a place, and for the pool itself if the pool is down. It
// returns the oldest such transactions: at most maxTxs of them and maxBytes bytes, but at least
// one. The transactions stay in the pool.
func (c Client) Take(ctx context.Context, maxTxs, maxBytes int) ([][]byte, error) {
	return engines.Call(ctx, c.to.With(engines.Resend), take{maxTxs, maxBytes})
}

// Offer returns the transactions without a place whose log index is above after, oldest first, and
// the index of the last one. It returns at most maxTxs transactions and maxBytes bytes, but at
// least one transaction if there is any. The transactions stay in the pool. If wait is set, Offer
// waits for a transaction, and for the pool itself if the pool is down.
func (c Client) Offer(ctx context.Context, after uint64, maxTxs, maxBytes int, wait bool) (txs [][]byte, last uint64,
	err error) {
	to := c.to
	if wait {
		to = to.With(engines.Resend)
	}
	o, err := engines.Call(ctx, to, offer{after, maxTxs, maxBytes, wait})
	return o.txs, o.last, err
}

// Check returns the error with which a pool would refuse raw if the chain were in that state and
// the clock at now. It asks no engine, so it does not know whether the transaction was submitted
// before.
func (c Client) Check(raw []byte, chain chain.State, now time.Time) error {
	if err := tooLarge(raw, chain); err != nil {
		return err
	}
	k := c.config.examine(c.config.decode(raw))
	if k.err != nil {
		return k.err
	}
	return admissible(k, chain, now)
}

// Recheck is Check for a transaction that Check has accepted before, of the same chain: it does not
// ask the backend again whether the body is a valid one.
func (c Client) Recheck(raw []byte, chain chain.State, now time.Time) error {
	k := c.config.decode(raw)
	if k.err != nil {
		return k.err
	}
	if k.notBefore, k.err = notBefore(c.config.Backends[k.tx.Backend], k.tx.Body); k.err != nil {
		return k.err
	}
	return admissible(k, chain, now)
}

// Sender returns the sender that raw names, and its bounds (chain.Bounded). An empty sender has
// none. Check may not accept raw.
func (c Client) Sender(raw []byte) (name string, most chain.Bounds) {
	if !c.bounds {
		return "", chain.Bounds{}
	}
	tx, err := chain.DecodeTx(raw)
	if err != nil {
		return "", chain.Bounds{}
	}
	from, most := c.config.senderOf(tx)
	if from == (sender{}) {
		return "", chain.Bounds{}
	}
	return from.backend + "/" + from.name, most
}

// Premature reports whether a block of the given time must not have raw (chain.Deferred). It
// depends on its arguments alone.
func (c Client) Premature(raw []byte, at time.Time) bool {
	if !c.defers {
		return false // without decoding each transaction of each proposal
	}
	tx, err := chain.DecodeTx(raw)
	if err != nil {
		return false
	}
	b := c.config.Backends[tx.Backend]
	if b == nil {
		return false
	}
	t, err := notBefore(b, tx.Body)
	return err == nil && !t.IsZero() && !at.After(t)
}

// Pending returns the transactions of a backend with a nonce that the pool has and that have not
// ended, also those that have a place.
func (c Client) Pending(ctx context.Context, backend string, nonce []byte) ([]chain.TxID, error) {
	return engines.Call(ctx, c.to.With(engines.Resend), pending{backend, nonce})
}

// Place makes the pool have the transactions of the decided block b executed, each at its place. It
// leaves out each transaction whose entry in refused is not nil. Place waits for the pool if the
// pool is down.
func (c Client) Place(ctx context.Context, b chain.Block, refused []*logv1.TxResult) error {
	_, err := engines.Call(ctx, c.to.With(engines.AwaitNext), place{engines.SenderOf(ctx), b, refused})
	return err
}

// Committed tells the pool how the transactions of a block ended.
func (c Client) Committed(ctx context.Context, rec *logv1.BlockCommitted) error {
	return engines.Cast(ctx, c.to.With(engines.AwaitNext), committed{engines.SenderOf(ctx), rec})
}

// Stat returns the present figures of the pool.
func (c Client) Stat(ctx context.Context) (Stat, error) {
	return engines.Call(ctx, c.to, stat{})
}
