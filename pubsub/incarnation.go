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

// incarnation is one life of the bus: from a start of the registry to the first end of the
// registry, the broker or an agent that was not retired. Nothing is carried over from one to the
// next, and one that is over reaches nobody: its subscriptions have ended.
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
	err           error // why it is over: Is ErrDown
	requests      []request[E]
	subscriptions map[*Subscription[E]]struct{}
	agents        map[*agent[E]]struct{} // those that run, but the broker
}

// request is what the registry is asked: to join a subscription, and then close joined, or to let
// it leave if joined is nil. There are never more of them than calls of Subscribe that wait and
// subscriptions that end, which bounds the list.
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

// fence makes the broker and the agents that still run end abnormally. There are some only if
// somebody started a child of the bus by hand: it cannot join an incarnation that is over, so all
// have to be started as one.
func (in *incarnation[E]) fence() { in.fencing.Do(func() { close(in.fenced) }) }

// end makes the incarnation over, once: the bus is down, and every subscription ends with ErrDown,
// which wraps why. When it returns that is done, whoever did it; so it is before the children that
// call it have ended.
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

// guard runs a child of the bus, and ends the incarnation with the way in which it ended, at once:
// a supervisor learns later. A panic goes on, on top of the stack that it has.
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

// join asks the registry to join s.
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

// forget is leave for a subscription that ended before it asked to join.
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
