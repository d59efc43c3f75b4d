package retention

import (
	"context"
	"time"
)

// snapshotShare is how much of one processor the verification of a snapshot may use: the node comes
// first.
const PaceShare = 0.5

// pace makes a background job wait in proportion to its work.
type Pace struct {
	Share float64
	last  time.Time
}

// wait waits so long that the work since the last wait was only its share of the time.
func (p *Pace) Wait(ctx context.Context) error {
	now := time.Now()
	work := min(now.Sub(p.last), 100*time.Millisecond) // the first call, and one after a long stop, know of no work
	if work < 5*time.Millisecond {
		return ctx.Err()
	}

	t := time.NewTimer(time.Duration(float64(work) * (1/p.Share - 1)))
	defer t.Stop()

	select {
	case <-t.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}

	p.last = time.Now()

	return nil
}
