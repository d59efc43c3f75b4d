package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/logger"
	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/api"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
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
		Condition: b.node.ready.Condition(), Held: b.node.gates.Held(),
	}, nil
}

// askTime bounds what a look waits for: an answer of the pool, or of the consensus's process.
const askTime = 500 * time.Millisecond

// Blocks returns committed blocks, the newest first: see api.Explorer.
func (b *apiCore) Blocks(ctx context.Context, from uint64, count int) ([]*apiv1.BlockInfo, error) {
	from, err := b.height(ctx, from)
	if err != nil || from == 0 {
		return nil, err
	}

	var blocks []*apiv1.BlockInfo
	for h := from; h > 0 && len(blocks) < count; h-- {
		info, _, err := b.block(ctx, h)
		if errors.Is(err, api.ErrNoHeight) && len(blocks) > 0 {
			break // the log or the state keeps no older ones
		}
		if err != nil {
			return nil, err
		}
		blocks = append(blocks, info)
	}

	return blocks, nil
}

// Block returns one committed block: see api.Explorer.
func (b *apiCore) Block(ctx context.Context, height uint64) (*apiv1.BlockResponse, error) {
	height, err := b.height(ctx, height)
	if err != nil {
		return nil, err
	}
	if height == 0 {
		return nil, fmt.Errorf("%w: no block is committed yet", api.ErrNoHeight)
	}
	info, rec, err := b.block(ctx, height)
	if err != nil {
		return nil, err
	}

	return &apiv1.BlockResponse{Block: info, Results: rec.Results[:min(len(rec.Results), api.MaxResults)],
		HookFailures: rec.HookFailures}, nil
}

// height returns the height that a request is about; 0: nothing is committed.
func (b *apiCore) height(ctx context.Context, asked uint64) (uint64, error) {
	s, err := b.store.State(ctx)
	if err != nil {
		return 0, api.Unavailable(err)
	}

	switch {
	case asked == 0:
		return s.Height, nil
	case asked > s.Height:
		return 0, fmt.Errorf("%w: %d, the last committed one is %d", api.ErrNoHeight, asked, s.Height)
	}

	return asked, nil
}

// block reads what the state and the log know of a block.
func (b *apiCore) block(ctx context.Context, height uint64) (*apiv1.BlockInfo, *logv1.BlockCommitted, error) {
	meta, err := b.store.Block(ctx, height)
	if errors.Is(err, storage.ErrNotCommitted) || errors.Is(err, storage.ErrPruned) {
		return nil, nil, fmt.Errorf("%w: %w", api.ErrNoHeight, err)
	}
	if err != nil {
		return nil, nil, api.Unavailable(err)
	}

	rec, size, err := read[*logv1.BlockCommitted](ctx, b, meta.Index)
	if err != nil {
		return nil, nil, err
	}

	info := &apiv1.BlockInfo{
		Height: meta.Height, Period: meta.Period, Time: timestamppb.New(meta.Time), Hash: meta.Hash,
		AppHash: meta.AppHash, Txs: uint32(len(rec.Results)), Bytes: uint64(size), Index: meta.Index,
		Changes: uint32(len(rec.Changes)),
	}
	for _, r := range rec.Results {
		if r.Code != logv1.Code_CODE_OK {
			info.Failed++
		}
	}

	decided, size, err := read[*logv1.OrderDecided](ctx, b, rec.DecidedIndex)
	if err == nil {
		info.Bytes += uint64(size)
		info.Proposer = decided.Proposer
	} else if !errors.Is(err, api.ErrNoHeight) {
		return nil, nil, err
	}

	return info, rec, nil
}

// read reads one record of the log, and returns its length.
func read[M any](ctx context.Context, b *apiCore, index uint64) (m M, size int, err error) {
	cur, err := b.log.Cursor(ctx, index)
	if errors.Is(err, eventlog.ErrTruncated) {
		return m, 0, fmt.Errorf("%w: the log no longer has record %d", api.ErrNoHeight, index)
	}
	if err != nil {
		return m, 0, api.Unavailable(err)
	}
	defer cur.Close()

	e, ok, err := cur.TryNext()
	if err == nil && (!ok || e.Index != index) {
		err = fmt.Errorf("%w: the log has no record %d", api.ErrNoHeight, index)
	}
	if err != nil {
		return m, 0, err
	}

	rec, err := chain.DecodeRecord(e)
	if err != nil {
		return m, 0, err
	}
	m, ok = rec.(M)
	if !ok {
		return m, 0, fmt.Errorf("record %d of the log is a %T, want a %T", index, rec, m)
	}

	return m, len(e.Data), nil
}

// Pool returns figures of the pool and its oldest transactions: see api.Explorer.
func (b *apiCore) Pool(ctx context.Context, count int) (v api.PoolView, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()

	s, err := b.pool.Stat(ctx)
	if err != nil {
		return v, api.Unavailable(err)
	}
	v = api.PoolView{Size: s.Txs, Queued: s.Queued, Executing: s.Workers, Bytes: s.Bytes, Oldest: s.Oldest}
	if s.Queued == 0 || count == 0 {
		return v, nil
	}

	v.Txs, _, err = b.pool.Offer(ctx, 0, count, mostPoolBytes, false)
	return v, api.Unavailable(err)
}

// mostPoolBytes bounds the transactions that one look at the pool takes.
const mostPoolBytes = 16 << 20

// Peers returns the condition of the consensus and its network: see api.Explorer.
func (b *apiCore) Peers(ctx context.Context) (c consensus.Condition, n consensus.Network, err error) {
	c = b.node.ready.Condition()

	d, ok := b.node.driver.(consensus.Networked)
	if !ok {
		return c, n, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	n, err = d.Network(ctx)

	return c, n, err
}
