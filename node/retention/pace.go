package retention

import (
	"context"
	"time"
)

// PaceShare is the share of one processor's time that the making and verification of a snapshot may
// use. The rest is left to the node's own work.
const PaceShare = 0.5

// Pace makes a background job wait in proportion to its work.
type Pace struct {
	Share float64 // of the time that the job may work, above 0 and at most 1
	last  time.Time
}

// Wait waits until the job has used at most its share of the time since the last Wait. If ctx ends
// first, it returns an error.
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
