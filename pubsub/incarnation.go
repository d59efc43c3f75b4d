package pubsub

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/coppice-go/coppice/supervisor"
)

type faults = <-chan supervisor.Fault

var (
	errReplaced = errors.New("replaced by the next incarnation")
	errFenced   = errors.New("its incarnation is over, and a child of it was started again")
	errGoexit   = errors.New("called runtime.Goexit")
)

// incarnation is one life of the bus. It begins with a start of the registry and is over when the
// registry, the broker, or an agent that was not retired ends. Nothing is carried over from one
// incarnation to the next. One that is over delivers nothing: its subscriptions have ended.
type incarnation[E any] struct {
	number  uint64
	bus     *Bus[E]
	broker  *agent[E]
	filters atomic.Pointer[filters[E]] // set before the incarnation is up
	wake    chan struct{}              // holds a token whenever there may be requests
	fenced  chan struct{}              // closed by fence
	fencing sync.Once
	ending  sync.Once

	mu            sync.Mutex
	err           error // why it is over, an ErrDown; nil until then
	requests      []request[E]
	subscriptions map[*Subscription[E]]struct{}
	agents        map[*agent[E]]struct{} // those that run, without the broker
}

// request asks the registry to join a subscription and then to close joined, or, if joined is nil,
// to let the subscription leave. There are never more requests than waiting calls of Subscribe and
// ending subscriptions, which bounds the list.
type request[E any] struct {
	subscription *Subscription[E]
	joined       chan<- struct{}
}

func newIncarnation[E any](bus *Bus[E], number uint64) *incarnation[E] {
	in := &incarnation[E]{
		number:        number,
		bus:           bus,
		wake:          make(chan struct{}, 1),
		fenced:        make(chan struct{}),
		subscriptions: make(map[*Subscription[E]]struct{}),
		agents:        make(map[*agent[E]]struct{}),
	}
	in.broker = newAgent(in, brokerID, nil, nil)
	return in
}

// fence makes the broker and the agents that still run end abnormally, so that the supervisor
// restarts all children of the bus together. Some still run only if a child of the bus was started
// by hand. Such a child cannot join an incarnation that is over.
func (in *incarnation[E]) fence() { in.fencing.Do(func() { close(in.fenced) }) }

// end ends the incarnation, once: it takes the bus down and ends every subscription with ErrDown,
// which wraps why. A call that comes second waits until the first has done all this. So it is done
// before any child that calls end has ended.
func (in *incarnation[E]) end(why error) {
	in.ending.Do(func() {
		in.mu.Lock()
		err := fmt.Errorf("%w: %w", ErrDown, why)
		in.err = err
		subscriptions := in.subscriptions
		in.subscriptions, in.requests = nil, nil
		in.mu.Unlock()

		in.bus.down(in)
		for s := range subscriptions {
			s.end(err)
		}
	})
}

func (in *incarnation[E]) ended() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.err
}

// guard runs a child of the bus and returns its error. When the child ends abnormally, guard ends
// the incarnation with that reason at once, before a supervisor learns of it. After a panic it
// panics again with the same value, and the stack trace still shows where the panic began.
func (in *incarnation[E]) guard(who string, run func() error) (err error) {
	returned := false
	defer func() {
		if returned {
			if err != nil {
				in.end(fmt.Errorf("%s: %w", who, err))
			}
			return
		}

		value := recover()
		if value == nil {
			in.end(fmt.Errorf("%s: %w", who, errGoexit))
			return // Goexit goes on by itself
		}

		if e, ok := value.(error); ok {
			in.end(fmt.Errorf("%s: panic: %w", who, e))
		} else {
			in.end(fmt.Errorf("%s: panic: %v", who, value))
		}

		panic(value)
	}()

	err = run()
	returned = true

	return err
}

// join asks the registry to connect s to the tree of agents. The registry then closes joined.
func (in *incarnation[E]) join(s *Subscription[E], joined chan<- struct{}) error {
	in.mu.Lock()
	defer in.mu.Unlock()

	if in.err != nil {
		return in.err
	}

	in.subscriptions[s] = struct{}{}
	in.requests = append(in.requests, request[E]{s, joined})
	signal(in.wake)

	return nil
}

// leave tells the registry that s has ended.
func (in *incarnation[E]) leave(s *Subscription[E]) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.err != nil {
		return
	}
	delete(in.subscriptions, s)
	in.requests = append(in.requests, request[E]{subscription: s})
	signal(in.wake)
}

// forget removes a subscription that ended before the registry joined it.
func (in *incarnation[E]) forget(s *Subscription[E]) {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.subscriptions, s)
}

func (in *incarnation[E]) takeRequests() []request[E] {
	in.mu.Lock()
	defer in.mu.Unlock()
	requests := in.requests
	in.requests = nil
	return requests
}

func (in *incarnation[E]) addAgent(a *agent[E]) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.agents[a] = struct{}{}
}

func (in *incarnation[E]) removeAgent(a *agent[E]) {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.agents, a)
}
