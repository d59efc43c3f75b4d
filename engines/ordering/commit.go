package ordering

import (
	"context"
	"fmt"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// committing is a block whose BlockCommitted was appended. The next block may be ordered and
// executed while the record becomes durable and is applied (docs/adr/0214).
type committing struct {
	rec     *logv1.BlockCommitted
	durable chan appended // takes the outcome of the append, once
	index   uint64        // of the record; set before done is closed
	done    chan struct{} // closed when the state has the block and the pool was told
}

// appended is the outcome of an append.
type appended struct {
	index uint64
	err   error
}

// commit commits the staged block at height and waits until that is done.
func (o *ordering) commit(ctx context.Context, height uint64) (chain.State, error) {
	if _, err := o.commitLater(ctx, height); err != nil {
		return o.state, err
	}
	err := o.settle(ctx)
	return o.state, err
}

// commitLater appends the BlockCommitted of the staged block at height, and returns the state that
// the chain has once that is durable. The rest is done by commitLoop.
func (o *ordering) commitLater(ctx context.Context, height uint64) (chain.State, error) {
	if height == o.state.Height && height != 0 {
		return o.state, nil // repeated
	}
	if err := o.ended(fmt.Sprintf("commit of height %d", height)); err != nil {
		return o.state, refusal{err}
	}
	if o.staged == nil || o.staged.Block.Height != height {
		return o.state, refusal{fmt.Errorf("%w: height %d", ErrNotStaged, height)}
	}
	if err := o.settle(ctx); err != nil {
		return o.state, err
	}

	b := o.staged.Block
	rec := &logv1.BlockCommitted{
		ChainId: b.ChainID, Period: b.Period, Height: b.Height, BlockHash: b.Hash, TimeNs: b.Time.UnixNano(),
		Results: o.staged.Results, Changes: o.staged.Changes, Validators: o.staged.Validators,
		AppHash: o.staged.AppHash, DecidedIndex: o.decidedIndex, HookFailures: o.staged.HookFailures,
	}
	r, err := chain.NewRecord(rec)
	if err != nil {
		return o.state, err
	}
	reset, err := chain.ResetOf(rec.Changes, o.state.Reset)
	if err != nil {
		return o.state, err
	}

	c := &committing{rec: rec, durable: make(chan appended, 1), done: make(chan struct{})}
	told := func(first uint64, err error) { c.durable <- appended{first, err} }
	if err := o.Log.AppendThen(ctx, told, r); err != nil {
		return o.state, err
	}

	o.under = c
	o.commits <- c // has room: settle has waited for the one before
	o.decided, o.staged, o.decidedIndex = nil, nil, 0
	o.state.Height, o.state.BlockHash, o.state.Time, o.state.AppHash = b.Height, b.Hash, b.Time, rec.AppHash
	o.state.Reset = reset

	return o.state, nil
}

// settle waits until the block that is being committed is committed.
func (o *ordering) settle(ctx context.Context) error {
	if o.under == nil {
		return nil
	}

	select {
	case <-o.under.done:
		o.state.Index = o.under.index
		o.under = nil
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// commitLoop finishes the commits that commitLater has begun, in the goroutine of its own that it
// needs so that the next block is ordered meanwhile. First the record is durable, then the state
// has it, and then the pool is told. An error ends the incarnation, and its successor replays the
// log.
func (o *ordering) commitLoop(ctx context.Context) error {
	for {
		select {
		case c := <-o.commits:
			if err := o.apply(ctx, c); err != nil {
				return err
			}
			close(c.done)
		case <-ctx.Done():
			return nil
		}
	}
}

// apply waits until the record of a block is durable, and applies it.
func (o *ordering) apply(ctx context.Context, c *committing) error {
	select {
	case a := <-c.durable:
		if a.err != nil {
			return a.err
		}
		c.index = a.index
	case <-ctx.Done():
		return context.Cause(ctx)
	}

	if err := o.Store.Commit(ctx, c.index, c.rec); err != nil {
		return err
	}
	return o.Pool.Committed(ctx, c.rec)
}
