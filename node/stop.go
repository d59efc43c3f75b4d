package node

import (
	"context"
	"sync"
)

// stopper is the request to stop a node.
type stopper struct {
	once sync.Once
	done chan struct{}
}

// Stop makes Run stop in order and return nil, as the end of Run's context does. It does not wait
// for that. It may be called at any time, more than once, and by any goroutine. A Run that begins
// after it stops at once.
func (n *Node) Stop() { n.stop.once.Do(func() { close(n.stop.done) }) }

// Stopping returns a channel that is closed when Stop is called.
func (n *Node) Stopping() <-chan struct{} { return n.stop.done }

// untilStop returns a context that ends with ctx, and when Stop is called.
func (n *Node) untilStop(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-n.stop.done:
			cancel()
		case <-ctx.Done():
		}
	}()

	return ctx, cancel
}
