package comet

import (
	"context"
	"sync"
	"time"
)

// brief is a context with a timeout that begins when a caller first waits for its end. Most
// look-ups return without a wait, and a timer for each would cost as much as the look-up.
type brief struct {
	context.Context
	time time.Duration

	mu      sync.Mutex
	limited context.Context // nil: nobody has waited
	cancel  context.CancelFunc
}

// Done starts the timeout.
func (b *brief) Done() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.limited == nil {
		b.limited, b.cancel = context.WithTimeout(b.Context, b.time)
	}
	return b.limited.Done()
}

func (b *brief) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.limited == nil {
		return b.Context.Err()
	}
	return b.limited.Err()
}

// end releases the timer, if there is one.
func (b *brief) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cancel != nil {
		b.cancel()
	}
}
