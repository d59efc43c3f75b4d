package behaviours

import (
	"context"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/rounds"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// behaviour is the behaviour of one turn.
type behaviour[S any] struct {
	sender *sender[S]
	turn   rounds.Turn[S]
}

// String names the service in reports.
func (b behaviour[S]) String() string { return "behaviour of " + b.turn.Name }

// Serve acts, unless the turn is over or its payload was sent, and sends what the behaviour has
// returned. While the round is interrupted the behaviour goes on, and what it returns is kept until
// the round goes on. Serve returns nil when there is nothing more to do for the turn.
func (b behaviour[S]) Serve(ctx context.Context) error {
	for {
		st, at, open, err := b.sender.open(ctx, b.turn)
		if err != nil || !open {
			return err
		}

		payload, err := b.act(ctx, st)
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx) // the behaviour has ignored its cancellation
		}

		ending, err := b.sender.send(ctx, b.turn, payload, at)
		if err != nil || ending.Expired == nil && ending.Result.GetCode() == logv1.Code_CODE_OK {
			return err // the block has judged the payload
		}
		if err := engines.Pause(ctx, sendAgain); err != nil {
			return err
		}
	}
}

// sendAgain is the time after which a payload is sent again whose transaction failed: its block was
// full, or the chain was in hold, or it expired.
const sendAgain = 500 * time.Millisecond

// act returns the payload of the turn.
func (b behaviour[S]) act(ctx context.Context, st rounds.State[S]) ([]byte, error) {
	if b.sender.Began != nil {
		b.sender.Began(b.turn)
	}
	if !b.turn.EndsPeriod {
		return b.turn.Act(ctx, st.App)
	}

	for {
		ends, ok := b.sender.Machine.Service.PauseEnds(st)
		if left := ends.Sub(b.sender.Now()); !ok || left <= 0 {
			return rounds.Encode(st.Period)
		} else if err := engines.Pause(ctx, left); err != nil {
			return nil, err
		}

		// If the round was interrupted, its end has moved.
		next, _, open, err := b.sender.open(ctx, b.turn)
		if err != nil || !open {
			return nil, err // nothing is sent for a turn that is over
		}
		st = next
	}
}

// validity returns until when a payload is valid that is sent now.
func validity(at chain.State, now time.Time) time.Time {
	if at.Time.After(now) {
		now = at.Time
	}
	window := time.Duration(at.Params.GetWindowNs())
	return now.Add(window / 2).UTC().Truncate(time.Millisecond)
}
