package engines

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coppice-go/coppice/supervisor"
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

	handle func(ctx context.Context, msg message) error // the handler for value
}

// Mailbox is the bounded queue of one incarnation. It is safe for concurrent use; only its Server
// receives from it.
type Mailbox struct {
	name        string
	incarnation uint64
	path        string          // of the supervised child; "" outside of a tree
	dir         Directory       // in which the engine is registered
	told        <-chan struct{} // closed when the incarnation is told to end
	in          chan message

	handlers map[reflect.Type]handler // complete before the first message is sent

	// posted holds the messages that the engine sends to itself: completions of work that it asked
	// for. They do not go through the bounded queue, because two engines whose queues are full must
	// not wait for each other. Their number is bounded by the work that the engine has asked for.
	mu     sync.Mutex
	posted []any
	wake   chan struct{}

	// goroutine is the number of the goroutine that serves the engine, and waits holds the edges of
	// the wait-for graph that begin here.
	goroutine atomic.Uint64
	waitMu    sync.Mutex
	waits     []*wait

	hand  atomic.Int64 // when the message being handled was sent, by clock; 0 if there is none
	calls Observer     // nil: calls are not measured

	endMu sync.Mutex
	atEnd []func() // nil once done is closed
	done  chan struct{}
	exit  error // set before done is closed
}

// newMailbox makes the mailbox of the incarnation that ctx belongs to.
func newMailbox(ctx context.Context, dir Directory, name string, size int) *Mailbox {
	return &Mailbox{
		name: name, incarnation: supervisor.Incarnation(ctx), path: supervisor.Path(ctx), dir: dir, told: ctx.Done(),
		handlers: make(map[reflect.Type]handler),
		in:       make(chan message, size), wake: make(chan struct{}, 1), done: make(chan struct{}),
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

// Replaces returns nil if m may be registered in the place of old, the mailbox that has its name
// now: there is none, or its incarnation has ended or was told to end, as a supervisor tells an
// incarnation before it starts the next one. Otherwise two engines have one name, and Replaces
// returns an ErrNameTaken that names both. An incarnation that was told to end replaces none: the
// error is supervisor.ErrFenced. A Directory calls Replaces in Register.
func (m *Mailbox) Replaces(old *Mailbox) error {
	select {
	case <-m.told:
		return fmt.Errorf("%w: engine %q: %s was told to end", supervisor.ErrFenced, m.name, m.who())
	default:
	}

	if old == nil || old == m {
		return nil
	}

	select {
	case <-old.done:
		return nil
	case <-old.told:
		return nil
	default:
		return fmt.Errorf("%w: %q belongs to %s, which runs; %s wants it too, and needs another Spec.Name",
			ErrNameTaken, m.name, old.who(), m.who())
	}
}

// who names the child that the mailbox belongs to.
func (m *Mailbox) who() string {
	if m.path == "" {
		return fmt.Sprintf("incarnation %d", m.incarnation)
	}
	return fmt.Sprintf("the child %s (incarnation %d)", m.path, m.incarnation)
}

// OnEnd has f called when the incarnation has ended, after Done is closed, or at once if it has
// ended already. f must not wait. With it a Directory forgets what it keeps for a mailbox.
func (m *Mailbox) OnEnd(f func()) {
	m.endMu.Lock()
	select {
	case <-m.done:
		m.endMu.Unlock()
		f()
	default:
		m.atEnd = append(m.atEnd, f)
		m.endMu.Unlock()
	}
}

func (m *Mailbox) addWait(w *wait) {
	m.waitMu.Lock()
	defer m.waitMu.Unlock()
	m.waits = append(m.waits, w)
}

func (m *Mailbox) dropWait(w *wait) {
	m.waitMu.Lock()
	defer m.waitMu.Unlock()
	if at := slices.Index(m.waits, w); at >= 0 {
		m.waits = slices.Delete(m.waits, at, at+1)
	}
}

// waiting returns the waits that were made with the context of the engine.
func (m *Mailbox) waiting() []*wait {
	m.waitMu.Lock()
	defer m.waitMu.Unlock()
	return slices.Clone(m.waits)
}

// send puts msg into the mailbox. It waits for room, and returns a *DownError when the incarnation
// ends first. w is the wait of a call's sender; that of a cast begins when there is no room.
func (m *Mailbox) send(ctx context.Context, msg message, w *wait) error {
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

	if w == nil {
		var err error
		if w, err = waitFor(ctx, m, nil); err != nil {
			return err
		}
		defer w.over()
	}

	w.note() // nothing answers questions below
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
	select {
	case <-m.done: // nothing takes it, and nothing should keep it
		return
	default:
	}

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

	m.endMu.Lock()
	close(m.done)
	ends := m.atEnd
	m.atEnd = nil
	m.endMu.Unlock()

	for _, f := range ends {
		f()
	}
}
