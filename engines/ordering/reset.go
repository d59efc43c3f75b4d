package ordering

import (
	"context"
	"fmt"

	"github.com/thejerf/suture/v4"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// end appends the ChainReset of the reset that is due, and returns it. From then on only the start
// of the next epoch goes on: a block of the old chain is refused. Repeating end returns the record
// that is in the log.
func (o *ordering) end(ctx context.Context, with chain.Renewal) (*logv1.ChainReset, error) {
	if o.reset != nil {
		return o.reset, nil // repeated by a driver that was cut off
	}
	if err := o.finish(ctx); err != nil {
		return nil, err
	}
	if err := o.settle(ctx); err != nil {
		return nil, err
	}

	root, err := o.Store.RootAt(ctx, o.state.Period+1)
	if err != nil {
		return nil, err
	}
	rec, err := o.state.ChainReset(root, with)
	if err != nil {
		return nil, refusal{err}
	}

	r, err := chain.NewRecord(rec)
	if err != nil {
		return nil, err
	}
	if _, err := o.Log.Append(ctx, r); err != nil {
		return nil, err
	}

	o.reset = rec
	return rec, nil
}

// finish commits the held block, if it is decided and not committed yet. The driver has proved that
// the chain has ended, so it may never deliver that block again.
func (o *ordering) finish(ctx context.Context) error {
	if o.decided == nil {
		return nil
	}
	if !o.state.InHold() || o.staged == nil {
		return refusal{fmt.Errorf("%w: %v is decided, and not committed yet", chain.ErrNoReset, *o.decided)}
	}
	_, err := o.commit(ctx, o.decided.Height)
	return err
}

// ended returns an error for a message of the log, or of a driver, that cannot come between the end
// of a chain and the start of the next epoch.
func (o *ordering) ended(what any) error {
	if o.reset == nil {
		return nil
	}
	return fmt.Errorf("%w: %v, but chain %s (period %d) has ended at height %d, and %s has not started", ErrEnded, what,
		o.reset.OldChainId, o.reset.OldPeriod, o.reset.LastHeight, o.reset.NewChainId)
}

// redoReset notes a ChainReset of the log, which must be the one that the state leads to. The state
// stays as it is.
func (o *ordering) redoReset(ctx context.Context, index uint64, rec *logv1.ChainReset) error {
	s, err := o.Store.State(ctx)
	if err != nil {
		return err
	}
	root, err := o.Store.RootAt(ctx, s.Period+1)
	if err != nil {
		return err
	}
	if err := s.CheckChainReset(root, rec); err != nil {
		return brokenAt(index, err)
	}

	o.reset = proto.CloneOf(rec)
	return nil
}

// brokenAt returns the error for a record of the log that does not fit the reset before it, or the
// state. No restart mends that.
func brokenAt(index uint64, err error) error {
	return fmt.Errorf("record %d: %w: %w: %w", index, chain.ErrReset, err, suture.ErrTerminateSupervisorTree)
}
