package node

import (
	"context"
	"time"

	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/supervisor"
)

// workers is the dynamic supervisor as the pool sees it.
type workers struct {
	*supervisor.Dynamic[mempool.Task]
}

// AwaitUp returns once workers can be started: within the start of the same mempool, which starts
// them after the pool.
func (w workers) AwaitUp(ctx context.Context) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()

	for {
		if _, err := w.CountChildren(); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
