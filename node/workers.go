package node

import (
	"context"
	"time"

	"github.com/coppice-go/coppice/engines/mempool"
	"github.com/coppice-go/coppice/supervisor"
)

// workers is the dynamic supervisor of the workers, as the pool uses it.
type workers struct {
	*supervisor.Dynamic[*mempool.Task]
}

// AwaitUp waits until workers can be started. The pool calls it because the mempool starts the
// supervisor of the workers after the pool.
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
