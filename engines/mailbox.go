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
	value   any
	from    any    // *call[R], nil for a cast
	call    uint64 // the generation of from
	sent    int64  // when it was sent, by clock; 0 lets the queue set it
	handler *handler
	timing  timing
}

// timing says what bounds a call, besides its caller's life.
type timing uint8

const (
	hasDeadline timing = 1 << iota // that of its context, which its handler's context has too
	hasLimit                       // that of CallFor
)

// Mailbox is the bounded queue of one incarnation. It is safe for concurrent use; only its Server
// receives from it.
type Mailbox struct {
	name        string
	incarnation uint64
	path        string          // of the supervised child; "" outside of a tree
	dir         Directory       // in which the engine is registered
	told        <-chan struct{} // closed when the incarnation is told to end

	// The queue also has the messages that the engine sends to itself: completions of work that it
	// asked for. They are not bounded, because two engines whose queues are full must not wait for
	// each other. Their number is bounded by the work that the engine has asked for.
	*queue

	handlers map[reflect.Type]*handler // complete before the first message is sent
	slots    slots                     // of the calls that have no answer yet
	standing atomic.Int32              // in its Directory, as Publish and Retire set it

	// goroutine is the number of the goroutine that serves the engine, and waits holds the edges of
	// the wait-for graph that begin here.
	goroutine atomic.Uint64
	waitMu    sync.Mutex
	waits     []*wait

	hand  atomic.Int64 // when the message being handled was sent, by clock; 0 if there is none
	calls Observer     // nil: calls are not measured

	// What Stat shows, besides. The server sets them; see Server.timed.
	began   atomic.Int64            // when the handler of the message in hand began, by clock; 0: not measured
	current atomic.Pointer[handler] // of the message in hand, or of the last one
	busy    atomic.Int64            // nanoseconds in handlers that have returned

	endMu sync.Mutex
	atEnd []func() // nil once done is closed
	done  chan struct{}
	exit  error // set before done is closed
}

// newMailbox makes the mailbox of the incarnation that ctx belongs to.
func newMailbox(ctx context.Context, dir Directory, name string, size int) *Mailbox {
	return &Mailbox{
		name: name, incarnation: supervisor.Incarnation(ctx), path: supervisor.Path(ctx), dir: dir, told: ctx.Done(),
		handlers: make(map[reflect.Type]*handler), queue: newQueue(size), done: make(chan struct{}),
	}
}

// Name returns the engine's name.
func (m *Mailbox) Name() string { return m.name }

// Incarnation returns the number of the incarnation that receives here.
func (m *Mailbox) Incarnation() uint64 { return m.incarnation }

// Len returns the number of messages that wait. It does not count those that the engine sent to
// itself.
func (m *Mailbox) Len() int { return m.queue.waiting() }

// Oldest returns the age of the oldest unfinished message, or 0 if there is none. That is the
// message being handled, because all waiting messages were sent after it. Up to stampEach messages
// that followed one another without a pause of the engine share the time of the first of them.
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

// ended returns err as a *DownError if it says that the incarnation of m has ended. Otherwise it
// returns nil: the answer to a call may be a *DownError too, of an engine that the callee called.
func (m *Mailbox) ended(err error) *DownError {
	down, _ := err.(*DownError)
	if down == nil || down.Engine != m.name || down.Incarnation != m.incarnation {
		return nil
	}
	return down
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
func (m *Mailbox) send(ctx context.Context, msg *message, w *wait) error {
	a, rouse := m.queue.put(msg)
	if rouse {
		m.signal()
	}

	switch a {
	case admitted:
		return nil
	case ended:
		<-m.done // the end is under way, and has its reason then
		return m.down(false)
	default:
		return m.sendWaiting(ctx, msg, w)
	}
}

// sendWaiting waits until there is room for msg.
func (m *Mailbox) sendWaiting(ctx context.Context, msg *message, w *wait) error {
	if w == nil {
		var err error
		if w, err = waitFor(ctx, m, pendingCall{}); err != nil {
			return err
		}
		defer w.over()
	}

	w.note() // nothing answers questions below
	faults := faultsOf(ctx)

	s, rouse := m.join(msg)
	if s == nil {
		<-m.done
		return m.down(false)
	}
	if rouse {
		m.signal()
	}

	for {
		select {
		case <-s.resolved:
			if s.entered {
				return nil
			}
			<-m.done
			return m.down(false)

		case <-ctx.Done():
			if m.quit(s) {
				return nil
			}
			return context.Cause(ctx)

		case f := <-faults:
			m.obey(ctx, f, s)
		}
	}
}

// obey executes a fault in a sender that waits for room. If the fault ends the sender, its message
// is withdrawn.
func (m *Mailbox) obey(ctx context.Context, f supervisor.Fault, s *sender) {
	lives := false
	defer func() {
		if !lives {
			m.quit(s)
		}
	}()
	f.Do(ctx)
	lives = true
}

// post puts v at the end of the engine's own queue. It never waits.
func (m *Mailbox) post(v any) {
	if m.queue.post(v) {
		m.signal()
	}
}

// The values of Mailbox.standing.
const (
	notPublished = iota
	published
	retired
)

// Publish is called by a Directory that has registered m, if it promises to call Retire as soon as
// Resolve no longer returns m. An Address then keeps m between its uses, and does not ask the
// Directory again before m is retired or has ended.
func (m *Mailbox) Publish() { m.standing.CompareAndSwap(notPublished, published) }

// Retire makes every Address that keeps m ask its Directory again.
func (m *Mailbox) Retire() { m.standing.Store(retired) }

// close marks the incarnation as ended. Callers that wait get a *DownError with the cause exit at
// once.
func (m *Mailbox) close(exit error) {
	m.Retire()
	m.queue.close()
	m.exit = exit

	m.endMu.Lock()
	close(m.done)
	ends := m.atEnd
	m.atEnd = nil
	m.endMu.Unlock()

	m.slots.close(m.down(true))
	for _, f := range ends {
		f()
	}
}
