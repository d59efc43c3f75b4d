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
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// backend answers the API from the engines of one run of the node.
type backend struct {
	node  *Node
	log   logger.Client
	store storage.Client
	pool  mempool.Client
}

func newBackend(n *Node, c *core) *backend {
	return &backend{
		node: n, log: logger.NewClient(c.dir), store: storage.NewClient(c.dir),
		pool: mempool.NewClient(c.dir, n.backends),
	}
}

// refusals says which of the pool's errors is which of the API's codes.
var refusals = []struct {
	is   error
	code apiv1.RefusedCode
}{
	{chain.ErrMalformedTx, apiv1.RefusedCode_REFUSED_CODE_MALFORMED},
	{mempool.ErrUnknownBackend, apiv1.RefusedCode_REFUSED_CODE_UNKNOWN_BACKEND},
	{mempool.ErrBadBody, apiv1.RefusedCode_REFUSED_CODE_BAD_BODY},
	{mempool.ErrTooLarge, apiv1.RefusedCode_REFUSED_CODE_TOO_LARGE},
	{mempool.ErrExpired, apiv1.RefusedCode_REFUSED_CODE_EXPIRED},
	{mempool.ErrTooEarly, apiv1.RefusedCode_REFUSED_CODE_TOO_EARLY},
	{mempool.ErrPoolFull, apiv1.RefusedCode_REFUSED_CODE_POOL_FULL},
}

func (b *backend) Submit(ctx context.Context, txs [][]byte) ([]api.Submitted, error) {
	answers, err := b.pool.Submit(ctx, txs)
	if err != nil {
		return nil, unavailable(err)
	}

	out := make([]api.Submitted, len(answers))

	for i, a := range answers {
		out[i].ID = a.ID
		if a.Err == nil {
			continue
		}

		out[i].Refused = &api.Refusal{Reason: a.Err.Error()}

		for _, r := range refusals {
			if errors.Is(a.Err, r.is) {
				out[i].Refused.Code = r.code
				break
			}
		}

		b.node.meter.Refused(out[i].Refused.Code)
	}

	return out, nil
}

func (b *backend) Look(ctx context.Context, ids []chain.TxID) ([]api.Outcome, error) {
	return outcomes(b.pool.Look(ctx, ids))
}

func (b *backend) Wait(ctx context.Context, ids []chain.TxID) ([]api.Outcome, error) {
	return outcomes(b.pool.Wait(ctx, ids))
}

func outcomes(endings []chain.Ending, err error) ([]api.Outcome, error) {
	if err != nil {
		return nil, unavailable(err)
	}
	out := make([]api.Outcome, len(endings))
	for i, e := range endings {
		out[i] = api.Outcome{Known: e.Known, Result: e.Result, Expired: e.Expired}
	}
	return out, nil
}

func (b *backend) Get(ctx context.Context, keys [][]byte, height uint64, max int) (api.Read, error) {
	var r api.Read
	bytes := 0

	for _, key := range keys {
		value, found, at, err := b.store.Get(ctx, key, height)
		if errors.Is(err, storage.ErrNotCommitted) || errors.Is(err, storage.ErrPruned) {
			return r, fmt.Errorf("%w: %w", api.ErrNoHeight, err)
		}
		if err != nil {
			return r, unavailable(err)
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

		height, r.Height = at, at // all keys at one height, also when it was the latest
		r.Values = append(r.Values, value)
	}

	return r, nil
}

func (b *backend) Status(ctx context.Context) (api.Status, error) {
	chain, err := b.store.State(ctx)
	if err != nil {
		return api.Status{}, unavailable(err)
	}
	if !chain.Started() {
		return api.Status{}, fmt.Errorf("%w: %w", api.ErrUnavailable, mempool.ErrNotStarted)
	}
	pool, err := b.pool.Stat(ctx)
	if err != nil {
		return api.Status{}, unavailable(err)
	}
	log, err := b.log.Stat(ctx)
	if err != nil {
		return api.Status{}, unavailable(err)
	}
	return api.Status{
		Chain: chain, Version: b.node.version, PoolSize: pool.Txs, Profile: string(b.node.config.Profile),
		Consensus: b.node.driver.Name(), LogIndex: log.Durable, AppliedIndex: chain.Index,
	}, nil
}

// unavailable marks what a caller may simply try again.
func unavailable(err error) error {
	if errors.Is(err, mempool.ErrNotStarted) {
		return fmt.Errorf("%w: %w", api.ErrUnavailable, err)
	}
	return err
}
