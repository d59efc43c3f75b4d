package retention

import (
	"context"
	"time"
)

// PaceShare is the share of one processor that the making and verification of a snapshot may use:
// the node's own work comes first.
const PaceShare = 0.5

// Pace makes a background job wait in proportion to its work.
type Pace struct {
	Share float64 // of the time that the job may work, above 0 and at most 1
	last  time.Time
}

// Wait waits until the work since the last Wait was only its share of the time.
func (p *Pace) Wait(ctx context.Context) error {
	now := time.Now()
	work := min(now.Sub(p.last), 100*time.Millisecond) // at the first call, and after a pause, now-last is not work
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
