package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/logger"
	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/node/api"
)

// apiCore implements api.Core with the engines of one run of the node.
type apiCore struct {
	node  *Node
	log   logger.Client
	store storage.Client
	pool  mempool.Client
}

// newAPICore returns the apiCore of the run that c belongs to.
func newAPICore(n *Node, c *core) *apiCore {
	return &apiCore{
		node: n, log: logger.NewClient(c.dir), store: storage.NewClient(c.dir),
		pool: mempool.NewClient(c.dir, n.backends),
	}
}

// Submit makes transactions durable: see api.Core.
func (b *apiCore) Submit(ctx context.Context, txs [][]byte) ([]chain.Submitted, error) {
	submitted, err := b.pool.Submit(ctx, txs)
	for _, s := range submitted {
		if s.Err != nil {
			b.node.meter.Refused(api.RefusedCode(s.Err))
		}
	}

	return submitted, api.Unavailable(err)
}

// Look returns how transactions have ended: see api.Core.
func (b *apiCore) Look(ctx context.Context, ids []chain.TxID) ([]chain.Ending, error) {
	endings, err := b.pool.Look(ctx, ids)
	return endings, api.Unavailable(err)
}

// Wait waits until transactions have ended: see api.Core.
func (b *apiCore) Wait(ctx context.Context, ids []chain.TxID) ([]chain.Ending, error) {
	endings, err := b.pool.Wait(ctx, ids)
	return endings, api.Unavailable(err)
}

// Get reads keys, all at the same height: see api.Core.
func (b *apiCore) Get(ctx context.Context, keys [][]byte, height uint64, max int) (api.Read, error) {
	var r api.Read
	bytes := 0

	for _, key := range keys {
		value, found, at, err := b.store.Get(ctx, key, height)
		if errors.Is(err, storage.ErrNotCommitted) || errors.Is(err, storage.ErrPruned) {
			return r, fmt.Errorf("%w: %w", api.ErrNoHeight, err)
		}
		if err != nil {
			return r, api.Unavailable(err)
		}

		if !found {
			value = nil
		} else if value == nil {
			value = []byte{}
		}

		if bytes += len(value); bytes > max {
			return r, fmt.Errorf("%w: keys: the values of the first %d of %d have %d bytes, want at most %d",
				api.ErrTooMuch, len(r.Values)+1, len(keys), bytes, max)
		}

		height, r.Height = at, at // if the latest height was asked for, the other keys are read there too
		r.Values = append(r.Values, value)
	}

	return r, nil
}

// Status returns the figures of the chain, the pool and the log: see api.Core.
func (b *apiCore) Status(ctx context.Context) (api.Status, error) {
	state, err := b.store.State(ctx)
	if err != nil {
		return api.Status{}, api.Unavailable(err)
	}
	b.node.ready.Saw(state)

	pool, err := b.pool.Stat(ctx)
	if err != nil {
		return api.Status{}, api.Unavailable(err)
	}
	log, err := b.log.Stat(ctx)
	if err != nil {
		return api.Status{}, api.Unavailable(err)
	}

	return api.Status{
		Chain: state, Version: b.node.version, PoolSize: pool.Txs, Profile: string(b.node.config.Profile),
		Consensus: b.node.driver.Name(), LogIndex: log.Durable, AppliedIndex: state.Index,
		History: b.node.history.Load().Now(), LogID: log.ID,
		Condition: b.node.ready.Condition(),
	}, nil
}
