package engines

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// call is the slot in which the reply to a call comes back. A slot serves one call after another,
// each with a generation of its own, so that a late reply cannot reach a later call: whoever
// resolves a call claims it first, with its generation, and only the first claim succeeds.
type call[R any] struct {
	ready chan struct{} // gets one token once the call has been claimed and the outcome is set
	state atomic.Uint64 // the generation, above the bits below

	// Set by the one who claimed the call, before the token.
	value R
	err   error
	by    resolver

	// For a call that has the deadline of its caller's context. Its slot is not used again, unless
	// the handler has replied, because the handler uses these fields.
	deadline time.Time
	release  context.CancelFunc // frees the handler's context; set before callReturned is

	limit limit
}

// The bits of call.state.
const (
	callReturned = 1 << iota // the handler has returned; it may have kept the call
	callAnswered             // claimed: a reply is on its way, or nobody waits any more
	callBits     = iota
)

// resolver says what ended the wait for a reply.
type resolver uint8

const (
	byReply resolver = iota
	byEnd            // of the incarnation
	byLimit
)

// next begins the next call of the slot, which is free, and returns its generation.
func (c *call[R]) next() (gen uint64) {
	gen = c.state.Load()>>callBits + 1
	c.state.Store(gen << callBits)
	return gen
}

// claim claims the call gen. If that succeeds, returned reports whether its handler has returned.
func (c *call[R]) claim(gen uint64) (ok, returned bool) {
	for {
		s := c.state.Load()
		if s>>callBits != gen || s&callAnswered != 0 {
			return false, false
		}
		if c.state.CompareAndSwap(s, s|callAnswered) {
			return true, s&callReturned != 0
		}
	}
}

// answer sends the first reply to the caller, and drops later ones.
func (c *call[R]) answer(gen uint64, value R, err error) { c.resolve(gen, value, err, byReply) }

func (c *call[R]) resolve(gen uint64, value R, err error, by resolver) {
	ok, returned := c.claim(gen)
	if !ok {
		return
	}

	c.value, c.err, c.by = value, err, by
	if returned && c.release != nil {
		c.release()
	}
	c.ready <- struct{}{} // there is room: one token for each claim, and the caller takes it
}

// returned notes that the handler has returned. It reports whether the caller still waits.
func (c *call[R]) returned(gen uint64) bool {
	for {
		s := c.state.Load()
		if s>>callBits != gen || s&callAnswered != 0 {
			return false
		}
		if c.state.CompareAndSwap(s, s|callReturned) {
			return true
		}
	}
}

// awaited reports whether the caller of gen still waits.
func (c *call[R]) awaited(gen uint64) bool { return c.state.Load()&^callReturned == gen<<callBits }

// fail ends the wait of the present call, if there is one, with the end of the incarnation.
func (c *call[R]) fail(down *DownError) {
	var none R
	c.resolve(c.state.Load()>>callBits, none, down, byEnd)
}

// handleInTime runs a handler with a context that ends by the caller's deadline. That deadline does
// not end the incarnation: if it is why the handler failed, the call fails.
func handleInTime[Q, R any](ctx context.Context, f func(context.Context, Q, From[R]) error, q Q, from From[R]) error {
	c, gen := from.c, from.gen
	var none R
	if !time.Now().Before(c.deadline) {
		c.answer(gen, none, errDeadline)
		return nil
	}

	ctx, cancel := context.WithDeadlineCause(withLifetime(ctx), c.deadline, errDeadline)
	c.release = cancel

	err := f(ctx, q, from)
	if err != nil && context.Cause(ctx) == errDeadline && errors.Is(err, context.DeadlineExceeded) {
		c.answer(gen, none, err)
		err = nil
	}

	if !c.returned(gen) {
		cancel()
	}

	return err
}

// limit is the time limit of the calls of one slot. Its timer is not stopped when a call is over:
// it is set again only when it fires, so a limit costs each call a look at the clock.
type limit struct {
	expire func()

	mu    sync.Mutex
	timer *time.Timer
	armed bool
	due   int64 // when the timer fires, by clock
	until int64 // when the limit of the call gen is over
	gen   uint64
}

// begin sets the limit of the call gen, at whose end the timer calls expire.
func (l *limit) begin(gen uint64, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.gen, l.until = gen, clock()+int64(d)
	if l.armed && l.due <= l.until {
		return
	}

	l.armed, l.due = true, l.until
	if l.timer == nil {
		l.timer = time.AfterFunc(d, l.expire)
	} else {
		l.timer.Reset(d)
	}
}

// fired returns the call whose limit is over. If it is not, fired sets the timer again.
func (l *limit) fired() (gen uint64, over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if left := l.until - clock(); left > 0 {
		l.due = l.until
		l.timer.Reset(time.Duration(left))
		return 0, false
	}

	l.armed = false
	return l.gen, true
}

func (c *call[R]) expire() {
	if gen, over := c.limit.fired(); over {
		var none R
		c.resolve(gen, none, context.DeadlineExceeded, byLimit)
	}
}

// slots are the slots of all calls to one incarnation. When it ends, they fail.
type slots struct {
	mu     sync.Mutex
	all    []interface{ fail(*DownError) }
	closed bool
}

func (s *slots) add(slot interface{ fail(*DownError) }) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed { // or nothing takes the call, and its sender learns that
		s.all = append(s.all, slot)
	}
}

// remove forgets a slot that is not used again.
func (s *slots) remove(slot interface{ fail(*DownError) }) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.all, slot); i >= 0 {
		last := len(s.all) - 1
		s.all[i], s.all[last] = s.all[last], nil
		s.all = s.all[:last]
	}
}

func (s *slots) close(down *DownError) {
	s.mu.Lock()
	all := s.all
	s.all, s.closed = nil, true
	s.mu.Unlock()

	for _, slot := range all {
		slot.fail(down)
	}
}

// pool has the free slots for the calls of one handler.
type pool struct {
	mu   sync.Mutex
	free []any // *call[R]
}

// slotOf returns a free slot for a call of h.
func slotOf[R any](m *Mailbox, h *handler) *call[R] {
	p := &h.calls
	p.mu.Lock()
	if n := len(p.free); n > 0 {
		c := p.free[n-1].(*call[R])
		p.free = p.free[:n-1]
		p.mu.Unlock()
		return c
	}
	p.mu.Unlock()

	c := &call[R]{ready: make(chan struct{}, 1)}
	c.state.Store(callAnswered) // nobody waits yet, so the end of the incarnation does not concern it
	c.limit.expire = c.expire
	m.slots.add(c)
	return c
}

// recycle makes the slot free. Its call has been claimed, and the token taken.
func (c *call[R]) recycle(h *handler) {
	var none R
	c.value, c.err, c.release = none, nil, nil
	p := &h.calls
	p.mu.Lock()
	p.free = append(p.free, c)
	p.mu.Unlock()
}
