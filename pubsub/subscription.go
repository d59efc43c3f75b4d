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
// over into the next. Its methods may be called from any goroutine; of several that wait in Next
// each event goes to one.
type Subscription[E any] struct {
	chain       Chain[E]
	policy      Policy
	incarnation *incarnation[E]
	agent       *agent[E]     // whose output it is; set by the registry before the first delivery, and the registry's
	unbind      func() bool   // lets go of the context
	wake        chan struct{} // holds a token whenever there may be something to read
	done        chan struct{}

	mu      sync.Mutex
	q       ring[E]
	dropped uint64
	err     error // why it ended; nil while it lives
	bound   *time.Timer
	stall   uint64 // counts the times that the bound of Block began to run, so that a late timer knows itself
	running bool   // the bound of Block runs
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

// Next answers the next event, in publish order, and waits for one where there is none. In place of
// events that are missing it answers a *Gap; what follows the gap is read by the next call.
//
// Any other error is final, and comes after everything that was in the buffer: ErrDown, with the
// exit that ended the incarnation; ErrSlow; or ErrClosed, which discards the buffer. Only the end
// of ctx, answered as its cause, says nothing of the subscription: ctx bounds this call alone.
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

// next is Next without waiting; ok is false where there is nothing yet.
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

// more hands the token on to the next waiting reader if there is something for it.
func (s *Subscription[E]) more() {
	if s.q.n > 0 || s.q.tail > 0 {
		signal(s.wake)
	}
}

// All ranges over the subscription: events with a nil error, a *Gap where events are missing, and
// at last the error that ended it, or ctx's cause, as Next answers them.
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

// Chain is the chain that was subscribed to.
func (s *Subscription[E]) Chain() Chain[E] { return s.chain }

// Done is closed when the subscription has ended; Err tells why. Events may still be in the buffer.
func (s *Subscription[E]) Done() <-chan struct{} { return s.done }

// Err answers why the subscription ended, as Next will, and nil while it lives.
func (s *Subscription[E]) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Dropped answers how many events this subscription has lost since its start because its own buffer
// was full. What was lost on the way to it is in its gaps only.
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
	s.q.clear() // also where it had ended before: nobody wants the rest
	first := s.stop(err)
	s.mu.Unlock()
	s.left(first)
}

// bind makes the end of ctx the end of the subscription.
func (s *Subscription[E]) bind(ctx context.Context) {
	s.mu.Lock() // which close needs too, so that it sees unbind
	defer s.mu.Unlock()
	s.unbind = context.AfterFunc(ctx, func() { s.close(closedBy(ctx)) })
}

func closedBy(ctx context.Context) error { return fmt.Errorf("%w: %w", ErrClosed, context.Cause(ctx)) }

// end ends the subscription. What is in the buffer stays readable.
func (s *Subscription[E]) end(err error) {
	s.mu.Lock()
	first := s.stop(err)
	s.mu.Unlock()
	s.left(first)
}

// stop ends the subscription, under s.mu, and reports whether this call did. Its caller hands that
// to left, without the lock.
func (s *Subscription[E]) stop(err error) (first bool) {
	if s.err != nil {
		return false
	}
	s.err = err
	s.stopBound()
	close(s.done)
	return true
}

// left lets go of the context and tells the registry, if this was the end.
func (s *Subscription[E]) left(first bool) {
	if first {
		s.unbind()
		s.incarnation.leave(s)
	}
}

// deliver puts the batch into the buffer and applies the policy where it is full.
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

// expire is the end of the bound that began as this stall. A reader, or another stall, may have
// come just before it.
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
