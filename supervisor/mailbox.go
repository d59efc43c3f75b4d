package supervisor

import (
	"context"
	"fmt"
	"sync"
)

// message is an exit, an attempt to restart, or a call. Messages are served in the order of their
// arrival, as in an Erlang mailbox.
type message interface {
	serve()
	refuse() // called if the run ends without calling serve
}

// notice is a message that no caller waits for.
type notice func()

func (f notice) serve() { f() }

func (notice) refuse() {}

// mailbox is a queue whose put never blocks. It is bounded by what exists: one exit per
// incarnation, one retry per child, one call per waiting caller.
type mailbox struct {
	signal chan struct{} // holds one value when the queue may have messages

	mu     sync.Mutex
	queue  []message
	closed bool
}

func newMailbox() *mailbox { return &mailbox{signal: make(chan struct{}, 1)} }

// put adds a message to the queue and reports whether the mailbox took it. A closed mailbox takes
// none.
func (b *mailbox) put(m message) bool {
	b.mu.Lock()
	defer b.mu.Unlock()

	if b.closed {
		return false
	}

	b.queue = append(b.queue, m)

	select {
	case b.signal <- struct{}{}:
	default:
	}

	return true
}

func (b *mailbox) take() (m message, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()

	q := b.queue
	if len(q) == 0 {
		return nil, false
	}

	m = q[0]
	q[0] = nil
	b.queue = q[1:]

	return m, true
}

func (b *mailbox) empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue) == 0
}

// close closes the mailbox and returns the messages that were not taken.
func (b *mailbox) close() []message {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	q := b.queue
	b.queue = nil
	return q
}

// call is a management call on its way through the mailbox.
type call struct {
	f   func() (Ref, error)
	ref Ref // with err, the result of f: written before done is closed, and read after
	err error

	mu      sync.Mutex
	begun   bool
	left    bool // the caller gave up before f began
	refused bool
	done    chan struct{}
}

func (c *call) serve() {
	c.mu.Lock()
	if c.left {
		c.mu.Unlock()
		return
	}

	c.begun = true
	c.mu.Unlock()

	c.ref, c.err = c.f()
	close(c.done)
}

func (c *call) refuse() {
	c.refused = true
	close(c.done)
}

// do runs f in the supervisor's goroutine, in its turn, as OTP serves management calls. If ctx ends
// before f has begun, f never runs.
func (r *Run) do(ctx context.Context, f func() (Ref, error)) (Ref, error) {
	ctx, leave, err := r.enter(ctx)
	if err != nil {
		return Ref{}, err
	}
	defer leave()

	c := &call{f: f, done: make(chan struct{})}
	if !r.box.put(c) {
		return Ref{}, r.gone()
	}

	select {
	case <-c.done:
		if c.refused {
			return Ref{}, r.gone()
		}
		return c.ref, c.err
	case <-ctx.Done():
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	select {
	case <-c.done: // the answer came first, if only just
		if !c.refused {
			return c.ref, c.err
		}
	default:
	}

	c.left = true
	if c.begun {
		return Ref{}, fmt.Errorf("%w; the call continues", context.Cause(ctx))
	}

	return Ref{}, context.Cause(ctx)
}
