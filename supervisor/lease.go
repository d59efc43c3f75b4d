package supervisor

import (
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"sync"
	"time"
)

// Lease is a resource, such as a file, a database or a listener, that outlives the incarnations
// that use it and must never have two users. An incarnation that was replaced may still run, and
// must not reach the resource any more. At most one Grant is valid at a time. A Lease is safe for
// concurrent use.
type Lease[T any] struct {
	open  func() (T, error)
	close func(T) error
	bound time.Duration

	turn chan struct{} // holds one token; its holder may replace the grant

	mu     sync.Mutex
	grant  *Grant[T] // the newest that is not closed
	closed bool
}

// Grant is the right of one incarnation to use the resource, until it is released or the next
// Acquire revokes it.
type Grant[T any] struct {
	lease *Lease[T]
	value T

	mu       sync.Mutex
	revoked  bool
	inFlight int
	idle     chan struct{} // closed when revoked and nothing is in flight
	release  sync.Once
	err      error
}

// NewLease makes a lease of a resource that open opens and close closes. bound limits the time that
// a revocation waits for operations in flight.
func NewLease[T any](open func() (T, error), close func(T) error, bound time.Duration) *Lease[T] {
	l := &Lease[T]{open: open, close: close, bound: bound, turn: make(chan struct{}, 1)}
	l.turn <- struct{}{}
	return l
}

// Acquire revokes the previous grant and waits for its operations in flight; new ones get
// ErrFenced. Then it closes the resource, opens it again, and returns the new grant. If the wait
// exceeds the bound, Acquire returns ErrLeaseStuck: an incarnation that was given up still uses the
// resource, and the caller must end the process. An error of close or open is returned unchanged,
// and there is then no grant. A panic in close or open reaches the caller, and leaves no grant
// either. If ctx ends first, the previous grant stays revoked.
func (l *Lease[T]) Acquire(ctx context.Context) (*Grant[T], error) {
	if err := l.revoke(ctx); err != nil {
		return nil, err
	}
	defer func() { l.turn <- struct{}{} }()

	if l.closed {
		return nil, fmt.Errorf("lease is closed: %w", ErrFenced)
	}
	v, err := l.opened(ctx)
	if err != nil {
		return nil, err
	}

	g := &Grant[T]{lease: l, value: v, idle: make(chan struct{})}
	l.mu.Lock()
	l.grant = g
	l.mu.Unlock()

	return g, nil
}

// opened calls open. The goroutines that open starts belong to the lease and not to the incarnation
// that asks, so they do not carry the child's labels.
func (l *Lease[T]) opened(ctx context.Context) (T, error) {
	if inc := incarnationOf(ctx); inc != nil {
		pprof.SetGoroutineLabels(context.Background())
		defer pprof.SetGoroutineLabels(inc.labels)
	}
	return l.open()
}

// Close revokes the grant and closes the resource for good. It returns the same errors as Acquire.
func (l *Lease[T]) Close() error {
	if err := l.revoke(context.Background()); err != nil {
		return err
	}
	l.closed = true
	l.turn <- struct{}{}
	return nil
}

// revoke takes the turn and ends the grant. It gives the turn back on an error, and also when close
// panics or does not return at all.
func (l *Lease[T]) revoke(ctx context.Context) error {
	select {
	case <-l.turn:
	case <-ctx.Done():
		return context.Cause(ctx)
	}

	taken := false
	defer func() {
		if !taken {
			l.turn <- struct{}{}
		}
	}()

	l.mu.Lock()
	g := l.grant
	l.mu.Unlock()

	if g != nil {
		if err := g.end(ctx); err != nil {
			return err
		}
	}

	taken = true

	return nil
}

// end revokes the grant, waits for operations in flight and closes the resource, once.
func (g *Grant[T]) end(ctx context.Context) error {
	g.mu.Lock()
	if !g.revoked {
		g.revoked = true
		if g.inFlight == 0 {
			close(g.idle)
		}
	}

	n := g.inFlight
	g.mu.Unlock()

	if n > 0 {
		if err := g.await(ctx); err != nil {
			return err
		}
	}

	g.release.Do(func() {
		g.err = errNotClosed // if close does not return
		defer func() {
			g.lease.mu.Lock()
			defer g.lease.mu.Unlock()
			if g.lease.grant == g {
				g.lease.grant = nil
			}
		}()

		g.err = g.lease.close(g.value)
	})

	return g.err
}

var errNotClosed = errors.New("close of the leased resource did not return")

// await waits until nothing is in flight any more.
func (g *Grant[T]) await(ctx context.Context) error {
	timer := time.NewTimer(g.lease.bound)
	defer timer.Stop()

	select {
	case <-g.idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
	}

	g.mu.Lock()
	defer g.mu.Unlock()

	if g.inFlight == 0 {
		return nil // the last one ended just now
	}

	return fmt.Errorf("%w: %d after %v", ErrLeaseStuck, g.inFlight, g.lease.bound)
}

// Do calls f with the resource and returns f's error. If the grant has been revoked, it returns
// ErrFenced instead. Calls may overlap. f must not keep the resource, nor call Release or Acquire.
func (g *Grant[T]) Do(f func(T) error) error {
	g.mu.Lock()
	if g.revoked {
		g.mu.Unlock()
		return ErrFenced
	}

	g.inFlight++
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.inFlight--; g.revoked && g.inFlight == 0 {
			close(g.idle)
		}
	}()

	return f(g.value)
}

// Release revokes the grant, waits for operations in flight, and closes the resource. It returns
// the error of close, or ErrLeaseStuck as Acquire does. A second call, or one after a revocation,
// does nothing more and returns the same.
func (g *Grant[T]) Release() error {
	err := g.end(context.Background())
	if err != nil && !safeIs(err, ErrLeaseStuck) {
		return fmt.Errorf("close leased resource: %w", err)
	}
	return err
}
