package node

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/mempool"
)

// halting is an Ordering that executes the blocks up to a height, or up to a block time, and then
// stops the node in order. It never executes a later block, so all nodes with the same limit halt
// with the same state.
type halting struct {
	consensus.Ordering
	height uint64    // of the last block to commit; 0: no limit
	time   time.Time // the latest time of a block to commit; zero: no limit
	halt   func(why string)

	// acknowledged waits until transactions that come back from the pool are acknowledged.
	acknowledged func(ctx context.Context, txs [][]byte) error
}

// halting returns o, or, if the configuration says when to halt, an Ordering that halts then.
func (n *Node) halting(o consensus.Ordering, pool mempool.Client) consensus.Ordering {
	at, _ := n.config.Halt.At() // the configuration is valid
	if n.config.Halt.Height == 0 && at.IsZero() {
		return o
	}

	return halting{Ordering: o, height: uint64(n.config.Halt.Height), time: at, halt: n.haltRun,
		acknowledged: func(ctx context.Context, txs [][]byte) error {
			if !n.alone || len(txs) == 0 {
				return nil // only a node that is alone has transactions in a block before it acknowledges them
			}
			_, err := pool.Submit(ctx, txs) // those that it has get the answer of the first submission
			return err
		}}
}

// haltRun stops the node in order, as a signal does. haltedByGate does the same for a gate.
func (n *Node) haltRun(why string) {
	n.halted.Do(func() {
		n.diagnostics.Warn("halting, as the configuration says", zap.String("reason", why))
		n.Stop()
	})
}

// Info implements consensus.Ordering. A node that has committed its last block already halts before
// it takes part in consensus.
func (h halting) Info(ctx context.Context) (chain.Standing, error) {
	s, err := h.Ordering.Info(ctx)
	if err == nil {
		h.committed(s.Committed.Height)
	}
	return s, err
}

// Order implements consensus.Ordering. A block after the limit waits for the end of the node, which
// begins once the block before it is committed and its own transactions are acknowledged.
func (h halting) Order(ctx context.Context, b chain.Block) (chain.Staged, error) {
	why := ""
	switch {
	case h.height != 0 && b.Height > h.height:
		why = fmt.Sprintf("block %d is after halt.height = %d", b.Height, h.height)
	case !h.time.IsZero() && b.Time.After(h.time):
		why = fmt.Sprintf("block %d of %s is after halt.time = %s", b.Height, b.Time.UTC().Format(time.RFC3339Nano),
			h.time.Format(time.RFC3339Nano))
	default:
		return h.Ordering.Order(ctx, b)
	}

	if _, err := h.Info(ctx); err != nil { // waits for the commit that is under way
		return chain.Staged{}, err
	}
	if err := h.acknowledged(ctx, b.Txs); err != nil {
		return chain.Staged{}, err
	}
	h.halt(why)

	<-ctx.Done()
	return chain.Staged{}, context.Cause(ctx)
}

// Commit implements consensus.Ordering.
func (h halting) Commit(ctx context.Context, height uint64) (chain.State, error) {
	s, err := h.Ordering.Commit(ctx, height)
	if err == nil {
		h.committed(height)
	}
	return s, err
}

// CommitLater implements consensus.Ordering. It waits for the commit of the last block, because no
// later block may come that would have the node halt.
func (h halting) CommitLater(ctx context.Context, height uint64) (chain.State, error) {
	if h.height != 0 && height >= h.height {
		return h.Commit(ctx, height)
	}
	return h.Ordering.CommitLater(ctx, height)
}

func (h halting) committed(height uint64) {
	if h.height != 0 && height >= h.height {
		h.halt(fmt.Sprintf("block %d is committed, and halt.height = %d", height, h.height))
	}
}
