// Package solo is consensus with oneself. It orders the transactions that the pool offers: it makes
// a block as soon as there is a transaction, larger blocks under load, and an empty block only if
// asked to. While a block is being committed, the next one is ordered and executed. Nobody learns
// of a block before it is committed, as the results come from the committed state and from the log.
//
// If the node dies, an order that was chosen but not logged is chosen again, and an order that was
// logged but not committed is committed first.
//
// A reset of the chain is made as soon as the block that decides it is committed. Nobody else has
// to agree, so no block comes after it in the old chain, and no certificate is needed.
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
	// MaxTxs limits the transactions of a block; 0 means DefaultMaxTxs. The genesis limits the
	// bytes.
	MaxTxs int

	// EmptyEvery is the time without a block after which solo makes one, even an empty one. 0 means
	// never.
	EmptyEvery time.Duration

	// Now returns the wall clock's time, which may jump; nil means time.Now.
	Now func() time.Time
}

// DefaultMaxTxs is the largest number of transactions in a block if Solo.MaxTxs is 0. A block that
// was decided when the core died is executed again before anything else is committed, so a larger
// block makes a restart longer, and a smaller one costs throughput (ADR 0228).
const DefaultMaxTxs = 5_000

// Name returns the name of the Kind.
func (Solo) Name() string { return Name }

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

// retryAfter is the pause between two calls to a core that is down.
const retryAfter = 5 * time.Millisecond

// Serve orders blocks until ctx ends. If the core restarts, Serve asks for the committed state and
// continues from there.
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

// run orders one block after another until a call fails.
func (d *driver) run(ctx context.Context) error {
	info, err := d.core.Ordering.Info(ctx)
	if err != nil {
		return err
	}

	state := info.Committed
	if info.Reset == nil { // called even if the chain has started, so that another genesis is refused
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

	return d.order(ctx, state)
}

// order makes one block after another, the first one after state. While a block is being committed,
// order makes the next one, unless the block has decided on a reset.
func (d *driver) order(ctx context.Context, state chain.State) error {
	var before *chain.Block // the block that is being committed
	settle := func() error {
		if before == nil {
			return nil
		}
		if _, err := d.core.Ordering.Commit(ctx, before.Height); err != nil {
			return fmt.Errorf("commit of %v: %w", *before, err)
		}
		before = nil
		return nil
	}

	for {
		if state.InHold() {
			if err := settle(); err != nil {
				return err
			}

			var err error
			if state, err = d.renew(ctx); err != nil {
				return err
			}
		}

		txs, err := d.gather(ctx, state)
		if err != nil {
			return err
		}
		b := propose(state, txs, d.Now())
		if _, err := d.core.Ordering.Order(ctx, b); err != nil {
			return fmt.Errorf("order of %v: %w", b, err)
		}

		if err := settle(); err != nil {
			return err
		}
		if state, err = d.core.Ordering.CommitLater(ctx, b.Height); err != nil {
			return fmt.Errorf("commit of %v: %w", b, err)
		}
		before = &b
	}
}

// renew ends the chain whose reset is due, starts the next epoch, and returns its state. It may be
// called again after a crash at any step of it.
func (d *driver) renew(ctx context.Context) (state chain.State, err error) {
	reset, err := d.core.Ordering.Reset(ctx, chain.Renewal{AppState: d.core.Genesis.GetAppState()})
	if err != nil {
		return state, fmt.Errorf("end of the chain: %w", err)
	}

	state, err = d.core.Ordering.InitChain(ctx, chain.StartedBy(reset, d.core.Genesis.GetAppState()))
	if err != nil {
		return state, fmt.Errorf("start of %s: %w", reset.NewChainId, err)
	}
	return state, nil
}

// renewed reports whether the next block is the first one after a reset. It comes at once and takes
// no transactions: only then is the reset gone from the state.
func renewed(state chain.State) bool { return state.Period > 0 && state.Height == 0 }

// gather waits for transactions and returns them. It returns none when an empty block is due.
func (d *driver) gather(ctx context.Context, state chain.State) ([][]byte, error) {
	if renewed(state) {
		return nil, nil
	}

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

// propose returns the block that comes after state. Its time is the clock's, but always later than
// the time of the block before. If the clock was set back, block time advances by a millisecond per
// block until the clock has caught up. The first block after a reset has the time of the block that
// decided it, as on a chain whose consensus begins with the time of its genesis.
func propose(state chain.State, txs [][]byte, now time.Time) chain.Block {
	if renewed(state) {
		now = state.Time
	} else if earliest := state.Time.Add(time.Millisecond); now.Before(earliest) {
		now = earliest
	}

	b := chain.Block{
		ChainID: state.ChainID, Period: state.Period, Height: state.Next(),
		Time: now.Truncate(time.Microsecond), Txs: txs,
	}
	b.Hash = b.ContentHash()
	return b
}
