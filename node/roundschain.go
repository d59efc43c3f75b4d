package node

import (
	"context"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/logger"
	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/engines/rounds/replicated"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/tail"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/agentlog"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// roundsChain implements behaviours.Chain with the engines of one run of the node.
type roundsChain[S any] struct {
	backend *replicated.Backend[S]
	log     logger.Client
	store   storage.Client
	pool    mempool.Client
	health  *roundsHealth
	lines   *agentlog.Log // nil: there is none
}

func newRoundsChain[S any](n *Node, b *replicated.Backend[S], dir engines.Directory) *roundsChain[S] {
	return &roundsChain[S]{backend: b, log: logger.NewClient(dir), store: storage.NewClient(dir),
		pool: mempool.NewClient(dir, n.backends), health: n.service, lines: n.agentLog}
}

// State implements behaviours.Chain. If the chain moves on while it reads, the keys are still those
// of one height.
func (c *roundsChain[S]) State(ctx context.Context) (st rounds.State[S], at chain.State, err error) {
	if at, err = c.store.State(ctx); err != nil {
		return st, at, err
	}
	if at.Height == 0 {
		return c.backend.Begin(), at, nil
	}

	st, err = c.backend.Read(func(key []byte) ([]byte, bool, error) {
		value, found, _, err := c.store.Get(ctx, key, at.Height)
		return value, found, err
	})
	return st, at, err
}

// Follow implements behaviours.Chain. The record of a block is durable before the state has it, so
// Follow looks at the state until it has.
func (c *roundsChain[S]) Follow(ctx context.Context, moved func()) error {
	t := tail.New(tail.Options{
		Log: func() (tail.Log, error) { return c.log, nil }, FromNow: true,
		Kinds: []eventlog.Kind{chain.KindChainStarted, chain.KindBlockCommitted},
	})
	defer t.Close()
	c.look(ctx)

	for e, err := range t.Records(ctx) {
		if err != nil {
			return err
		}
		if err := c.note(e); err != nil {
			return err
		}
		if err := c.applied(ctx, e.Index); err != nil {
			return err
		}
		moved()
	}
	return context.Cause(ctx)
}

// look notes the round that the service is in. If the engines are down, the next block tells.
func (c *roundsChain[S]) look(ctx context.Context) {
	st, at, err := c.State(ctx)
	if err != nil || at.Height == 0 {
		return
	}

	entered, known := c.backend.Machine().Service.Entered(st)
	if !known {
		entered = at.Time
	}
	c.health.saw(st.Round, st.Count, st.Period, entered)
	if c.lines != nil {
		c.lines.Entered(st.Round, st.Period, entered, st.Deadlines)
	}
}

// note notes a block, and the round that it has left the service in, if it has changed it.
func (c *roundsChain[S]) note(e eventlog.Entry) error {
	m, err := chain.DecodeRecord(e)
	if err != nil {
		return err
	}

	b, ok := m.(*logv1.BlockCommitted)
	if !ok {
		return nil
	}
	at := time.Unix(0, b.TimeNs)
	if c.lines != nil {
		c.lines.Block(at)
	}

	var last *rounds.State[struct{}]
	for _, change := range b.Changes {
		st, ok, err := replicated.ReadRound(change.Key, change.Value)
		if err != nil {
			return err
		}
		if ok {
			c.health.saw(st.Round, st.Count, st.Period, at)
			last = &st
		}
	}

	if c.lines != nil && last != nil && last.Last.Place == (rounds.Place{Epoch: b.Period, Height: b.Height}) {
		c.transitions(*last, at)
	}
	return nil
}

// transitions logs the transitions of the block after which the service is in state st. Of several
// rounds that were entered only the last one has deadlines that still count.
func (c *roundsChain[S]) transitions(st rounds.State[struct{}], at time.Time) {
	for i, e := range st.Last.Ended {
		name := e.Round
		if name == "" {
			name = rounds.Name(e.Label) // of a background round
		}
		c.lines.Done(name, e.Event)

		switch last := i == len(st.Last.Ended)-1; {
		case e.Next == "":
		case last:
			c.lines.Entered(e.Next, st.Period, at, st.Deadlines)
		default:
			c.lines.Entered(e.Next, st.Period, at, nil)
		}
	}
}

// applied waits until the state has applied a record.
func (c *roundsChain[S]) applied(ctx context.Context, index uint64) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()

	for {
		if s, err := c.store.State(ctx); err == nil && s.Index >= index {
			return nil
		}

		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Pending implements behaviours.Chain.
func (c *roundsChain[S]) Pending(ctx context.Context, nonce []byte) ([]chain.TxID, error) {
	return c.pool.Pending(ctx, rounds.Backend, nonce)
}

// Submit implements behaviours.Chain.
func (c *roundsChain[S]) Submit(ctx context.Context, raw []byte) (chain.Submitted, error) {
	out, err := c.pool.Submit(ctx, [][]byte{raw})
	if err != nil {
		return chain.Submitted{}, err
	}
	return out[0], nil
}

// Wait implements behaviours.Chain.
func (c *roundsChain[S]) Wait(ctx context.Context, id chain.TxID) (chain.Ending, error) {
	out, err := c.pool.Wait(ctx, []chain.TxID{id})
	if err != nil {
		return chain.Ending{}, err
	}
	return out[0], nil
}
