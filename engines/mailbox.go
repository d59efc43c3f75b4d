package engines

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Observer records durations in seconds. Observe is safe for concurrent use and returns soon. A
// Prometheus histogram is an Observer.
type Observer interface{ Observe(seconds float64) }

// Measurer is an interface that a Directory may also implement, to measure calls. CallTimes returns
// the Observer for the durations of calls to the named engine, from sending to reply, or nil to
// measure none. Calls without a reply are not observed.
type Measurer interface {
	CallTimes(engine string) Observer
}

var epoch = time.Now()

// clock returns a cheap time for differences: nanoseconds since the process began, never 0.
func clock() int64 { return int64(time.Since(epoch)) + 1 }

// message is one message in a mailbox: the value, and for a call the way back for the reply.
type message struct {
	value any
	from  any   // *call[R], nil for a cast
	sent  int64 // when it was sent, by clock
}

// Mailbox is the bounded queue of one incarnation. It is safe for concurrent use; only its Server
// receives from it.
type Mailbox struct {
	name        string
	incarnation uint64
	in          chan message

	// posted holds the messages that the engine sends to itself: completions of work that it asked
	// for. They do not go through the bounded queue, because two engines whose queues are full must
	// not wait for each other. Their number is bounded by the work that the engine has asked for.
	mu     sync.Mutex
	posted []any
	wake   chan struct{}

	hand  atomic.Int64 // when the message being handled was sent, by clock; 0 if there is none
	calls Observer     // nil: calls are not measured

	done chan struct{}
	exit error // set before done is closed
}

func newMailbox(name string, incarnation uint64, size int) *Mailbox {
	return &Mailbox{
		name: name, incarnation: incarnation,
		in: make(chan message, size), wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// Name returns the engine's name.
func (m *Mailbox) Name() string { return m.name }

// Incarnation returns the number of the incarnation that receives here.
func (m *Mailbox) Incarnation() uint64 { return m.incarnation }

// Len returns the number of messages that wait. It does not count those that the engine sent to
// itself.
func (m *Mailbox) Len() int { return len(m.in) }

// Oldest returns the age of the oldest unfinished message, or 0 if there is none. That is the
// message being handled, because all waiting messages were sent after it.
func (m *Mailbox) Oldest() time.Duration {
	sent := m.hand.Load()
	if sent == 0 {
		return 0
	}
	return time.Duration(clock() - sent)
}

// Done is closed when the incarnation has ended.
func (m *Mailbox) Done() <-chan struct{} { return m.done }

// Down returns the error that a call to the ended incarnation gets. It may be called only after
// Done is closed.
func (m *Mailbox) Down() *DownError { return m.down(false) }

func (m *Mailbox) down(delivered bool) *DownError {
	return &DownError{Engine: m.name, Incarnation: m.incarnation, Delivered: delivered, Cause: m.exit}
}

// send puts msg into the mailbox. It waits for room, and returns a *DownError when the incarnation
// ends first.
func (m *Mailbox) send(ctx context.Context, msg message) error {
	select {
	case <-m.done: // a queue with room must not swallow a message that will not be taken
		return m.down(false)
	default:
	}

	select {
	case m.in <- msg:
		return nil
	default:
	}

	faults := faultsOf(ctx)

	for {
		select {
		case m.in <- msg:
			return nil
		case <-m.done:
			return m.down(false)
		case <-ctx.Done():
			return context.Cause(ctx)
		case f := <-faults:
			f.Do(ctx)
		}
	}
}

// post puts v at the end of the engine's own queue. It never waits.
func (m *Mailbox) post(v any) {
	m.mu.Lock()
	m.posted = append(m.posted, v)
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// takePosted empties the engine's own queue and returns what was in it.
func (m *Mailbox) takePosted() []any {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.posted
	m.posted = nil
	return p
}

// close marks the incarnation as ended. Callers that wait get a *DownError with the cause exit at
// once.
func (m *Mailbox) close(exit error) {
	m.exit = exit
	close(m.done)
}
