package behaviours

import (
	"context"
	"sync"

	"github.com/coppice-go/coppice/supervisor"
)

// bell wakes all who wait for a new state. The zero value is ready; it is safe for concurrent use.
type bell struct {
	mu   sync.Mutex
	next chan struct{} // closed by the next ring; nil: nobody waits
}

// listen returns a channel that the next ring closes.
func (b *bell) listen() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}

// await waits until rung is closed, or ctx ends. It obeys faults.
func await(ctx context.Context, rung <-chan struct{}) error {
	for {
		select {
		case <-rung:
			return nil
		case fault := <-supervisor.Faults(ctx):
			fault.Do(ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
