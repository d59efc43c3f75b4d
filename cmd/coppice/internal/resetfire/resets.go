package resetfire

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/cmd/coppice/internal/rig"
	"github.com/coppice-go/coppice/engines/backend/governance"
	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

const (
	askTime    = 2 * time.Second
	decideTime = 10 * time.Second
	longest    = 3 * time.Second // an aimed pause or cut lasts up to this long
)

// standing is where a node stands.
type standing struct {
	epoch, height uint64
	app           string
}

// ask asks a node where it stands.
func (f *fire) ask(ctx context.Context, i int) (at standing, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	s, err := f.clients[i].Status(ctx)
	if err != nil {
		return at, err
	}
	return standing{s.Period, s.Height, fmt.Sprintf("%x", s.AppHash)}, nil
}

// settle waits until all nodes stand in one epoch and have a block of it.
func (f *fire) settle(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	var at []string
	for {
		at = at[:0]
		same, epoch := 0, uint64(0)
		for i := range f.clients {
			s, err := f.ask(ctx, i)
			if err != nil {
				at = append(at, "no answer")
				continue
			}
			at = append(at, fmt.Sprintf("epoch %d height %d", s.epoch, s.height))
			if s.height > 0 && (same == 0 || s.epoch == epoch) {
				same, epoch = same+1, s.epoch
			}
		}

		if same == f.Nodes {
			f.res.Resets = epoch
			return nil
		}
		if rig.Pause(ctx, 200*time.Millisecond) != nil {
			return fmt.Errorf("after %v not all nodes are in one epoch: %q", limit, at)
		}
	}
}

// reset has the chain decide on one reset after the other.
func (f *fire) reset(ctx context.Context) {
	for ctx.Err() == nil {
		epoch, err := f.decide(ctx)
		if err != nil {
			if rig.Pause(ctx, 100*time.Millisecond) != nil {
				return
			}
			continue
		}

		f.doing("epoch %d ends", epoch)
		if f.awaitBlock(ctx, epoch+1) != nil {
			return
		}
		f.doing("epoch %d has a block", epoch+1)
		if rig.Pause(ctx, f.Every) != nil {
			return
		}
	}
}

// decide has the chain decide on the next reset, and returns the epoch that it ends. Every node
// gets the same transaction, because some may be down, paused or cut off: it has one effect.
//
// Nobody else changes the governance, so the number of a decision follows from the one before. A
// node is asked for it only if that one has failed: a node that was left behind would answer first,
// with an old number, which the chain refuses.
func (f *fire) decide(ctx context.Context) (epoch uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, decideTime)
	defer cancel()

	next := f.next
	f.next = 0
	if next == 0 {
		last, err := f.lastDecision(ctx)
		if err != nil {
			return 0, err
		}
		next = last + 1
	}

	body, err := governance.SignReset(f.key, governance.ResetChange{ChainID: "fire", Sequence: next})
	if err != nil {
		return 0, err
	}

	tx := f.clients[0].NewTx(governance.Name, body, time.Minute)
	r, err := anyOf(ctx, f.clients, func(ctx context.Context, c *client.Client) (*logv1.TxResult, error) {
		return c.SubmitWait(ctx, tx)
	})
	if err != nil {
		return 0, err
	}
	if r.Code != logv1.Code_CODE_OK {
		return 0, fmt.Errorf("%v: %s", r.Code, r.Log)
	}
	d, err := chain.DecodeReset(r.Data)
	if err != nil {
		return 0, err
	}
	f.next = next + 1

	return d.Epoch, nil
}

// lastDecision returns the number of the last change of the governance, as a node knows it.
func (f *fire) lastDecision(ctx context.Context) (uint64, error) {
	raw, err := anyOf(ctx, f.clients, func(ctx context.Context, c *client.Client) ([]byte, error) {
		raw, _, err := c.Get(ctx, []byte(governance.StateKey))
		return raw, err
	})
	if err != nil {
		return 0, err
	}
	var set governance.Set
	if raw != nil {
		if set, err = governance.DecodeSet(raw); err != nil {
			return 0, err
		}
	}
	return set.Sequence, nil
}

// anyOf asks all nodes at once and returns the first answer, or all errors.
func anyOf[R any](ctx context.Context, clients []*client.Client,
	ask func(context.Context, *client.Client) (R, error)) (R, error) {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()

	type answer struct {
		r   R
		err error
	}
	answers := make(chan answer, len(clients))
	for _, c := range clients {
		all.Go(func() {
			r, err := ask(ctx, c)
			answers <- answer{r, err}
		})
	}

	var errs []error
	for range clients {
		a := <-answers
		if a.err == nil {
			return a.r, nil
		}
		errs = append(errs, a.err)
	}

	var none R
	return none, errors.Join(errs...)
}

// awaitBlock waits until any node has a block of an epoch.
func (f *fire) awaitBlock(ctx context.Context, epoch uint64) error {
	for {
		asking, cancel := context.WithTimeout(ctx, askTime)
		_, err := anyOf(asking, f.clients, func(ctx context.Context, c *client.Client) (bool, error) {
			s, err := c.Status(ctx)
			if err == nil && (s.Period < epoch || s.Height == 0) {
				err = errors.New("not yet")
			}
			return true, err
		})
		cancel()
		if err == nil {
			return nil
		}
		if err := rig.Pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// watch follows the blocks of a node. It measures the resets, and aims troubles at them.
func (f *fire) watch(ctx context.Context, i int) {
	var decided time.Time
	var period uint64

	_ = f.clients[i].Follow(ctx, 0, []string{"BlockCommitted"}, func(r client.Record) error {
		b := r.Message.(*logv1.BlockCommitted)
		reset, err := chain.ResetOf(b.Changes, nil)
		if err != nil {
			return err
		}

		switch {
		case reset != nil: // F
			decided, period = time.Now(), b.Period
			f.aim(ctx, i, "F")
		case !decided.IsZero() && b.Period == period: // F+1
			f.aim(ctx, i, "F+1")
		case !decided.IsZero() && b.Period == period+1:
			f.mu.Lock()
			f.res.Took = append(f.res.Took, time.Since(decided))
			f.mu.Unlock()
			decided = time.Time{}
			f.aim(ctx, i, "the first block")
		}
		return nil
	})
}

// aim strikes a node at a point of a reset, once in a while: it pauses the node or its CometBFT, or
// cuts the node off, for a moment.
func (f *fire) aim(ctx context.Context, i int, at string) {
	if !f.Aimed || f.intN(2*f.Nodes) != 0 {
		return
	}
	how := f.intN(3)
	long := time.Duration(1+f.intN(int(longest/time.Millisecond))) * time.Millisecond
	f.doing("at %s: node %d, trouble %d for %v", at, i, how, long)

	if how == 2 {
		if f.net.Partition(ctx, [][]int{{i}}) != nil {
			return
		}
		f.count(&f.res.Cuts)
		_ = rig.Pause(ctx, long)
		_ = f.net.Partition(context.WithoutCancel(ctx), [][]int{})
		return
	}

	if f.net.Signal(ctx, i, how == 1, syscall.SIGSTOP) != nil {
		return
	}
	f.count(&f.res.Pauses)
	_ = rig.Pause(ctx, long)
	_ = f.net.Signal(context.WithoutCancel(ctx), i, how == 1, syscall.SIGCONT)
}

func (f *fire) count(n *int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*n++
}
