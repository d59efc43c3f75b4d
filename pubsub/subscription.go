package pubsub

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"
)

// Subscription is one subscriber's stream of events. It lives until its context ends, Close is
// called, its policy disconnects it, or its incarnation of the bus is over; it is never carried
// over into the next incarnation. Its methods may be called from any goroutine. If several
// goroutines wait in Next, each event goes to one of them.
type Subscription[E any] struct {
	chain       Chain[E]
	policy      Policy
	incarnation *incarnation[E]
	agent       *agent[E]     // that it is an output of; owned by the registry, and set before the first delivery
	unbind      func() bool   // releases the context
	wake        chan struct{} // holds a token whenever there may be something to read
	done        chan struct{}

	mu      sync.Mutex
	q       ring[E]
	dropped uint64
	err     error // why it ended; nil while it lives
	bound   *time.Timer
	stall   uint64 // counts how often the bound of Block began to run, so that a late timer is recognised
	running bool   // whether the bound of Block runs
}

func newSubscription[E any](in *incarnation[E], chain Chain[E], policy Policy) *Subscription[E] {
	return &Subscription[E]{
		chain:       chain,
		policy:      policy,
		incarnation: in,
		wake:        make(chan struct{}, 1),
		done:        make(chan struct{}),
		q:           ring[E]{bound: policy.buffer()},
	}
}

// Next returns the next event, in publish order, and waits for one if there is none. In place of
// missing events it returns a *Gap as its error; the next call returns what follows the gap.
//
// Any other error is final, and comes after everything that was in the buffer: ErrDown, with the
// exit that ended the incarnation; ErrSlow; or ErrClosed, which discards the buffer. The only
// exception is the end of ctx, whose cause Next returns: ctx bounds this call alone and does not
// end the subscription.
func (s *Subscription[E]) Next(ctx context.Context) (E, error) {
	for {
		if e, err, ok := s.next(); ok {
			return e, err
		}
		select {
		case <-s.wake:
		case <-s.done:
		case <-ctx.Done():
			var none E
			return none, context.Cause(ctx)
		}
	}
}

// next returns what Next would return if it need not wait. If it would have to wait, ok is false.
func (s *Subscription[E]) next() (e E, err error, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if missed := s.q.takeGap(); missed > 0 {
		s.more()
		return e, &Gap{Missed: missed}, true
	}

	if s.q.n > 0 {
		e = s.q.pop().event
		s.stopBound()
		s.more()
		return e, nil, true
	}

	return e, s.err, s.err != nil
}

// more wakes the next waiting reader if there is something for it. mu is held.
func (s *Subscription[E]) more() {
	if s.q.n > 0 || s.q.tail > 0 {
		signal(s.wake)
	}
}

// All ranges over the subscription. It yields what Next returns: events with a nil error, a *Gap
// where events are missing, and at last the error that ended the subscription, or ctx's cause.
func (s *Subscription[E]) All(ctx context.Context) iter.Seq2[E, error] {
	return func(yield func(E, error) bool) {
		for {
			e, err := s.Next(ctx)
			_, gap := err.(*Gap)
			if !yield(e, err) || err != nil && !gap {
				return
			}
		}
	}
}

// Chain returns the chain that was subscribed to.
func (s *Subscription[E]) Chain() Chain[E] { return s.chain }

// Done returns a channel that is closed when the subscription has ended; Err then returns why.
// Events may still be in the buffer.
func (s *Subscription[E]) Done() <-chan struct{} { return s.done }

// Err returns why the subscription ended, as Next will, and nil while it lives.
func (s *Subscription[E]) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Dropped returns how many events this subscription has lost since its start because its own buffer
// was full. Events that were lost on the way to it are counted in its gaps only.
func (s *Subscription[E]) Dropped() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped
}

// Close ends the subscription with ErrClosed and discards its buffer. It does not wait, and closing
// again does nothing.
func (s *Subscription[E]) Close() { s.close(ErrClosed) }

func (s *Subscription[E]) close(err error) {
	s.mu.Lock()
	s.q.clear() // even if it had ended before: nobody wants the rest
	first := s.stop(err)
	s.mu.Unlock()
	s.left(first)
}

// bind makes the end of ctx end the subscription.
func (s *Subscription[E]) bind(ctx context.Context) {
	s.mu.Lock() // which close needs too, so that it sees unbind
	defer s.mu.Unlock()
	s.unbind = context.AfterFunc(ctx, func() { s.close(closedBy(ctx)) })
}

func closedBy(ctx context.Context) error { return fmt.Errorf("%w: %w", ErrClosed, context.Cause(ctx)) }

// end ends the subscription. The events in the buffer stay readable.
func (s *Subscription[E]) end(err error) {
	s.mu.Lock()
	first := s.stop(err)
	s.mu.Unlock()
	s.left(first)
}

// stop ends the subscription and reports whether this call did. mu is held; the caller passes the
// result to left after unlocking it.
func (s *Subscription[E]) stop(err error) (first bool) {
	if s.err != nil {
		return false
	}
	s.err = err
	s.stopBound()
	close(s.done)
	return true
}

// left completes the end that stop began. If first is true, it releases the context and tells the
// registry that the subscription has ended.
func (s *Subscription[E]) left(first bool) {
	if first {
		s.unbind()
		s.incarnation.leave(s)
	}
}

// deliver puts the batch into the buffer, and applies the policy whenever that is full.
func (s *Subscription[E]) deliver(batch []entry[E], tail uint64) {
	s.mu.Lock()
	before := s.dropped
	delivered, first := 0, false

	for _, e := range batch {
		if s.err != nil {
			break
		}

		if s.q.full() {
			switch s.policy.(type) {
			case DropOldest:
				s.q.dropOldest()
				s.dropped++

			case Block:
				s.q.gap(e.missed + 1)
				s.dropped++
				s.startBound()
				continue

			case Disconnect:
				first = s.stop(fmt.Errorf("%w: its buffer of %d events was full", ErrSlow, s.q.bound))
				continue
			}
		}

		s.q.push(e)
		delivered++
	}

	if s.err == nil {
		s.q.gap(tail)
	}

	dropped := s.dropped - before
	s.mu.Unlock()

	s.agent.delivered.Add(uint64(delivered))
	s.agent.dropped.Add(dropped)
	s.left(first)
	signal(s.wake)
}

func (s *Subscription[E]) startBound() {
	if s.running {
		return
	}
	s.running = true
	s.stall++
	stall := s.stall
	s.bound = time.AfterFunc(s.policy.(Block).Bound, func() { s.expire(stall) })
}

func (s *Subscription[E]) stopBound() {
	if s.running {
		s.running = false
		s.bound.Stop()
	}
}

// expire ends the subscription when the bound that began as this stall has passed, unless a reader
// took an event, or another stall began, just before.
func (s *Subscription[E]) expire(stall uint64) {
	s.mu.Lock()
	first := false

	if s.running && s.stall == stall {
		s.running = false
		first = s.stop(fmt.Errorf("%w: its buffer of %d events was full and it took none for %v", ErrSlow, s.q.bound,
			s.policy.(Block).Bound))
	}

	s.mu.Unlock()

	s.left(first)
}
