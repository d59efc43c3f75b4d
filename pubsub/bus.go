package pubsub

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// Bus is the client side of the bus, and the maker of its supervisor's Spec. It outlives the
// incarnations that serve it: hold it, hang its Spec in a tree, and use it from any goroutine,
// whatever the tree is doing.
type Bus[E any] struct {
	options Options

	standing atomic.Pointer[standing[E]]

	mu      sync.Mutex
	current *incarnation[E]
	number  uint64
	changed chan struct{} // closed, and made anew, at each change of standing
}

// standing is the incarnation that serves, or why there is none.
type standing[E any] struct {
	in  *incarnation[E]
	err error
}

var (
	errNotStarted = errors.New("not started yet")
	errStarting   = errors.New("starting")
)

// begin makes the next incarnation and fences the one before: its subscriptions end, and it reaches
// nobody even if it still runs.
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

// latest is the incarnation that began last.
func (b *Bus[E]) latest() *incarnation[E] {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.current
}

// up makes in the incarnation that serves, unless it is over already.
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

// stand changes the standing, under mu.
func (b *Bus[E]) stand(s *standing[E]) {
	b.standing.Store(s)
	close(b.changed)
	b.changed = make(chan struct{})
}

// change is closed at the next change of standing.
func (b *Bus[E]) change() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

// Publish hands an event to the broker and never waits. Events of one goroutine are published in
// the order of its calls. The event is shared by all subscribers: what it points to must not change
// any more.
//
// ErrBehind says that the broker was at its bound, and that every subscriber sees a gap in the
// event's place; ErrDown that there is no broker. nil is no promise that anybody gets the event:
// the log is truth, the bus is notification.
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

// Subscribe begins a subscription to the events that match the chain. Every event whose Publish was
// called after Subscribe returned, and that was accepted, is in the subscription, or in one of its
// gaps, or comes after its end; some that were published just before may be there too. policy says
// what happens when the reader is slow.
//
// The end of ctx is the end of the subscriber: it bounds the call, and ends the subscription.
//
// Subscribe waits for the registry, not for the bus: where that is down it answers ErrDown at once,
// and SubscribeWait does not. Other errors are ErrFilter, ErrOptions, and ErrClosed if ctx ends
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

// SubscribeWait is Subscribe, but where the bus is down it waits until it is up again, or ctx ends.
// It is what a subscriber calls whose subscription ended with ErrDown.
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

// WaitUp waits until the bus is up, or ctx ends. It may be down again by the time that WaitUp
// returns.
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
