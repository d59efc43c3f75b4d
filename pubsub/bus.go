package pubsub

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// Bus is the client side of the bus, and makes the Spec of its supervisor. It outlives the
// incarnations that serve it: keep it, put its Spec into a tree, and use it from any goroutine,
// whatever the state of the tree.
type Bus[E any] struct {
	options Options

	standing atomic.Pointer[standing[E]]

	mu      sync.Mutex
	current *incarnation[E]
	number  uint64
	changed chan struct{} // closed and replaced at each change of standing
}

// standing is the incarnation that serves, or the reason why none does.
type standing[E any] struct {
	in  *incarnation[E]
	err error
}

var (
	errNotStarted = errors.New("not started yet")
	errStarting   = errors.New("starting")
)

// begin makes and returns the next incarnation, and fences the previous one: its subscriptions end,
// and it delivers no more events, even if it still runs.
func (b *Bus[E]) begin() *incarnation[E] {
	b.mu.Lock()
	before := b.current
	b.number++
	in := newIncarnation(b, b.number)
	b.current = in
	b.stand(&standing[E]{err: fmt.Errorf("%w: %w", ErrDown, errStarting)})
	b.mu.Unlock()

	if before != nil {
		before.end(errReplaced)
		before.fence()
	}

	return in
}

// latest returns the incarnation that began last.
func (b *Bus[E]) latest() *incarnation[E] {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.current
}

// up puts in into service, unless in is over already.
func (b *Bus[E]) up(in *incarnation[E]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current == in && in.ended() == nil {
		b.stand(&standing[E]{in: in})
	}
}

// down takes in, which is over, out of service.
func (b *Bus[E]) down(in *incarnation[E]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current == in {
		b.stand(&standing[E]{err: in.ended()})
	}
}

// stand changes the standing. mu is held.
func (b *Bus[E]) stand(s *standing[E]) {
	b.standing.Store(s)
	close(b.changed)
	b.changed = make(chan struct{})
}

// change returns a channel that is closed at the next change of standing.
func (b *Bus[E]) change() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

// Publish hands an event to the broker and never waits. Events of one goroutine are published in
// the order of its calls. All subscribers share the event: nothing that it points to may change any
// more.
//
// Publish returns ErrBehind if the broker was at its bound; every subscriber then sees a gap in
// place of the event. It returns ErrDown if there is no broker. A nil error does not promise that
// any subscriber gets the event: the log is truth, the bus is notification.
func (b *Bus[E]) Publish(e E) error {
	s := b.standing.Load()
	if s.in == nil {
		return s.err
	}
	if !s.in.broker.in.put(e) {
		return ErrBehind
	}
	return nil
}

// Subscribe begins a subscription to the events that match the chain. If such an event is accepted
// by a Publish that was called after Subscribe returned, the subscription delivers the event,
// counts it in a Gap, or ends before it. The subscription may also have some events that were
// published just before. policy decides what happens when the reader is slow.
//
// When ctx ends, the call ends, and once the call has returned, the subscription.
//
// Subscribe waits for the registry, but not for the bus: if the bus is down, it returns ErrDown at
// once, unlike SubscribeWait. Its other errors are ErrFilter, ErrOptions, and ErrClosed if ctx ends
// first.
func (b *Bus[E]) Subscribe(ctx context.Context, chain Chain[E], policy Policy) (*Subscription[E], error) {
	if err := chain.validate(); err != nil {
		return nil, err
	}
	if policy == nil {
		return nil, fmt.Errorf("%w: policy is nil, want Block, DropOldest or Disconnect", ErrOptions)
	}
	if err := policy.validate(); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, closedBy(ctx)
	}
	standing := b.standing.Load()
	if standing.in == nil {
		return nil, standing.err
	}

	s := newSubscription(standing.in, append(Chain[E](nil), chain...), policy)
	s.bind(ctx)

	joined := make(chan struct{})
	if err := standing.in.join(s, joined); err != nil {
		s.end(err)
		return nil, err
	}

	select {
	case <-joined:
		return s, nil
	case <-s.Done():
		return nil, s.Err()
	}
}

// SubscribeWait does what Subscribe does, but if the bus is down it waits until the bus is up again
// or ctx ends. A subscriber calls it after its subscription ended with ErrDown.
func (b *Bus[E]) SubscribeWait(ctx context.Context, chain Chain[E], policy Policy) (*Subscription[E], error) {
	for {
		change := b.change() // before the attempt, so that no change is missed
		s, err := b.Subscribe(ctx, chain, policy)
		if !errors.Is(err, ErrDown) {
			return s, err
		}

		select {
		case <-change:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, context.Cause(ctx))
		}
	}
}

// WaitUp waits until the bus is up or ctx ends. The bus may be down again when WaitUp returns.
func (b *Bus[E]) WaitUp(ctx context.Context) error {
	for {
		change := b.change()
		s := b.standing.Load()
		if s.in != nil {
			return nil
		}

		select {
		case <-change:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", s.err, context.Cause(ctx))
		}
	}
}
