// Package solo is consensus with oneself: it orders what the pool offers, a block as soon as there
// is work and never an empty one unless asked to, larger blocks under load. While a block is
// committed the next one gathers.
//
// An order that was chosen and not logged is simply chosen anew; one that was logged and not
// committed is committed first.
package solo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/thejerf/suture/v4"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/supervisor"
)

// Solo is the driver of a node without peers.
type Solo struct {
	// MaxTxs bounds the transactions of a block; 0 is DefaultMaxTxs. The genesis bounds its bytes.
	MaxTxs int

	// EmptyEvery makes a block, empty if need be, when there was none for so long. 0 is never.
	EmptyEvery time.Duration

	// Now is the wall clock, which may jump; nil is time.Now.
	Now func() time.Time
}

// DefaultMaxTxs is what Solo.MaxTxs 0 means.
const DefaultMaxTxs = 5_000

// Name is "solo".
func (Solo) Name() string { return "solo" }

// Start returns the driver's StartFunc.
func (s Solo) Start(core consensus.Core) supervisor.StartFunc {
	if s.MaxTxs == 0 {
		s.MaxTxs = DefaultMaxTxs
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	return func(context.Context) (supervisor.Service, error) { return &driver{s, core}, nil }
}

type driver struct {
	Solo
	core consensus.Core
}

// String names the service in reports.
func (*driver) String() string { return "consensus solo" }

// retryAfter spaces the questions to a core that is down and does not come back by itself.
const retryAfter = 5 * time.Millisecond

// Serve orders until ctx ends. The core's restarts are no fault of ours: whatever was interrupted
// is asked about and taken up again.
func (d *driver) Serve(ctx context.Context) error {
	for {
		err := d.run(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !errors.Is(err, engines.ErrDown) {
			return err
		}

		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case f := <-supervisor.Faults(ctx):
			f.Do(ctx)
		case <-time.After(retryAfter):
		}
	}
}

// run orders block after block until something is amiss.
func (d *driver) run(ctx context.Context) error {
	info, err := d.core.Ordering.Info(ctx)
	if err != nil {
		return err
	}

	state := info.Committed
	if state.Period == 0 { // also where it has started: by this genesis, and no other
		if state, err = d.core.Ordering.InitChain(ctx, d.core.Genesis); errors.Is(err, engines.ErrDown) {
			return err
		} else if err != nil {
			return fmt.Errorf("start of chain %s: %w: %w", d.core.Genesis.GetChainId(), err,
				suture.ErrTerminateSupervisorTree)
		}
	}

	if info.Leftover != nil {
		if state, err = d.core.Ordering.Commit(ctx, info.Leftover.Height); err != nil {
			return fmt.Errorf("commit of the leftover %v: %w", *info.Leftover, err)
		}
	}

	for {
		txs, err := d.gather(ctx, state)
		if err != nil {
			return err
		}
		b := propose(state, txs, d.Now())
		if _, err := d.core.Ordering.Order(ctx, b); err != nil {
			return fmt.Errorf("order of %v: %w", b, err)
		}
		if state, err = d.core.Ordering.Commit(ctx, b.Height); err != nil {
			return fmt.Errorf("commit of %v: %w", b, err)
		}
	}
}

// gather waits for work.
func (d *driver) gather(ctx context.Context, state chain.State) ([][]byte, error) {
	take := ctx
	if d.EmptyEvery > 0 {
		var cancel context.CancelFunc
		take, cancel = context.WithTimeout(ctx, d.EmptyEvery)
		defer cancel()
	}

	txs, err := d.core.Pool.Take(take, min(d.MaxTxs, chain.MaxBlockTxs), int(state.Params.GetMaxBlockBytes()))
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return nil, nil // an empty block is due
	}

	return txs, err
}

// propose makes the block that comes after state. Its time is the clock's, and always later than
// the block's before: a clock that was set back stands still until it has caught up.
func propose(state chain.State, txs [][]byte, now time.Time) chain.Block {
	if earliest := state.Time.Add(time.Millisecond); now.Before(earliest) {
		now = earliest
	}

	b := chain.Block{
		ChainID: state.ChainID, Period: state.Period, Height: state.Next(),
		Time: now.Truncate(time.Microsecond), Txs: txs,
	}
	b.Hash = b.ContentHash()
	return b
}
