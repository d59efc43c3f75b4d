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

// serve makes an incarnation the message of its own exit, to a Run.
func (inc *incarnation) serve() { inc.owner.(*Run).handleExit(inc) }

func (*incarnation) refuse() {}

// notice is a message that no caller waits for.
type notice func()

func (f notice) serve() { f() }

func (notice) refuse() {}

// mailbox is a queue whose put never blocks. It is bounded by what exists: one exit per
// incarnation, one retry per child, one call per waiting caller.
type mailbox struct {
	signal chan struct{} // holds one value when the queue may have messages, or by poke

	mu     sync.Mutex
	queue  []message // those before head have been taken
	head   int
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

	if len(b.queue) == cap(b.queue) && b.head > 0 { // room at the beginning comes before more memory
		n := copy(b.queue, b.queue[b.head:])
		clear(b.queue[n:])
		b.queue, b.head = b.queue[:n], 0
	}

	b.queue = append(b.queue, m)
	b.poke()

	return true
}

// poke makes the run's goroutine look again at what it waits for.
func (b *mailbox) poke() {
	select {
	case b.signal <- struct{}{}:
	default:
	}
}

func (b *mailbox) take() (m message, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()

	if b.head == len(b.queue) {
		return nil, false
	}

	m = b.queue[b.head]
	b.queue[b.head] = nil
	if b.head++; b.head == len(b.queue) {
		b.queue, b.head = b.queue[:0], 0
	}

	return m, true
}

func (b *mailbox) empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.head == len(b.queue)
}

// close closes the mailbox and returns the messages that were not taken.
func (b *mailbox) close() []message {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	q := b.queue[b.head:]
	b.queue, b.head = nil, 0
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

// A management call is served in the run's goroutine. That goroutine also waits for the children:
// for the acknowledgment of a start, and for the end of a stop. A caller that it waits for would
// wait for itself. Every other caller below the run is served like a caller from outside.

// buildKey is the context key under which the context of Build has the incarnation that runs it.
type buildKey struct{}

// childOf returns the child of this run that ctx belongs to or is below, nil if there is none.
func (s *scope) childOf(ctx context.Context) *incarnation {
	for inc := incarnationOf(ctx); inc != nil; inc = inc.parent {
		if inc.owner != nil && inc.owner == s.kids {
			return inc
		}
	}
	return nil
}

// enter admits a management call with ctx. It refuses a caller whose start the run waits for.
// Otherwise it returns the context of the call. That ends when ctx does. It also ends, with
// ErrWouldDeadlock as its cause, when the run waits for the end of a caller whose ctx does not end
// then. The caller must call leave when the call is over.
func (s *scope) enter(ctx context.Context) (call context.Context, leave func(), err error) {
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}

	build, _ := ctx.Value(buildKey{}).(*incarnation)
	if build != nil && build.parent == s.own && (Ref{build}).Alive() {
		return nil, nil, ErrWouldDeadlock
	}

	child := s.childOf(ctx)
	if child == nil {
		return ctx, func() {}, nil
	}
	if s.waitsForStart(ctx, child) {
		return nil, nil, ErrWouldDeadlock
	}

	call, cancel := context.WithCancelCause(ctx)
	// The supervisors between the run and the caller stop their children in order, so the caller
	// may still have time.
	forget := context.AfterFunc(child.told(), func() {
		context.AfterFunc(incarnationOf(ctx).told(), func() { cancel(ErrWouldDeadlock) })
	})

	return call, func() { forget(); cancel(nil) }, nil
}

// waitsForStart reports whether the acknowledgment of child's start needs that of the caller. It
// does not if the caller has started, or a supervisor between the two: the rest of child's start
// goes on without the caller.
func (s *scope) waitsForStart(ctx context.Context, child *incarnation) bool {
	for inc := incarnationOf(ctx); inc != child; inc = inc.parent {
		if inc.started() {
			return false
		}
	}
	return !child.started()
}

// deadlocks reports whether ctx belongs to a child of this run, to one below, or to the run's own
// Build, so that the end of the run waits for the caller.
func (s *scope) deadlocks(ctx context.Context) bool {
	for inc := incarnationOf(ctx); inc != nil; inc = inc.parent {
		if inc == s.own || (inc.owner != nil && inc.owner == s.kids) {
			return true
		}
	}
	return false
}

// told returns a context that ends when the incarnation has been told to end by its supervisor.
func (inc *incarnation) told() context.Context {
	inc.mu.Lock()
	defer inc.mu.Unlock()

	r := inc.rareLocked()
	if r.toldCtx == nil {
		r.toldCtx, r.tellWaiters = context.WithCancel(context.Background())
	}
	if inc.stopped {
		r.tellWaiters()
	}

	return r.toldCtx
}

// toldLocked ends what told returned. The context of the incarnation has ended before, so that a
// call with that context ends with its cause.
func (inc *incarnation) toldLocked() {
	if inc.rare != nil && inc.rare.tellWaiters != nil {
		inc.rare.tellWaiters()
	}
}
