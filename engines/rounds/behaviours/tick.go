package behaviours

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/rounds"
)

// ticks are the ticks of a follower.
type ticks struct {
	body []byte    // of the tick that the FSM waits for; nil: none
	due  time.Time // when the tick is submitted, by the node's clock
}

const (
	// tickAfter is how long after the deadline the tick is submitted, because the times of blocks
	// may be coarser than deadlines.
	tickAfter = 5 * time.Millisecond

	// confirmAfter is how long a round that counts blocks waits for a block that comes by itself.
	confirmAfter = 300 * time.Millisecond

	// tickAgain is the time after which a tick that has brought no block is submitted again.
	tickAgain = 2 * time.Second
)

// tick submits the tick that the FSM waits for, once it is due.
func (f *follower[S]) tick(ctx context.Context, st rounds.State[S], at chain.State) error {
	t, ok := st.NextTick(at.Period, at.Time)
	if !ok {
		f.ticks = ticks{}
		return nil
	}

	if body := t.Encode(); !bytes.Equal(body, f.ticks.body) {
		f.ticks = ticks{body: body, due: t.After.Add(tickAfter)}
		if t.Waited > 0 {
			f.ticks.due = f.Now().Add(confirmAfter)
		}
	}

	now := f.Now()
	if now.Before(f.ticks.due) {
		return nil
	}
	f.ticks.due = now.Add(tickAgain)

	raw, err := t.Tx(time.Duration(at.Params.GetWindowNs()), now).Encode()
	if err != nil {
		return err
	}
	if _, err := f.Chain.Submit(ctx, raw); err != nil && !errors.Is(err, engines.ErrDown) {
		return err
	}

	return nil // a tick that is refused, or lost, is submitted again
}
