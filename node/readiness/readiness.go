// Package readiness says whether a node is able: whether it takes transactions and sees them
// committed. It joins what the tree shows, what the driver of the consensus says, and what the node
// itself sees of its disk and its clock, into one consensus.Condition with a reason.
package readiness

import (
	"context"
	"sync"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
)

// Sources holds what a Tracker looks at. Every function is safe for concurrent use. Only Chain may
// wait, until its context ends.
type Sources struct {
	// Down returns why a part of the tree does not run; "" if all of it runs.
	Down func() string

	// CoreDown is Down for the node without its consensus, which may be down by itself.
	CoreDown func() string

	// Held returns which gate makes a block wait for sinks, and for which; "" if none does. nil:
	// there are no gates.
	Held func() string

	// Driver returns what the driver says; ok is false for a driver that says nothing.
	Driver func() (c consensus.Condition, ok bool)

	// Chain returns the committed state of the chain.
	Chain func(context.Context) (chain.State, error)

	Disk Disk
	Now  func() time.Time
}

// lookEvery is the time between two looks of Watch.
const lookEvery = 250 * time.Millisecond

// againEvery is the time after which Watch reports a state again whose reason has changed.
const againEvery = 15 * time.Second

// Tracker computes a node's readiness. Its methods are safe for concurrent use.
type Tracker struct {
	Sources

	mu       sync.Mutex
	state    chain.State         // the newest that was seen
	last     consensus.Condition // what Condition returned last, with the time of its state
	stopping bool

	news chan struct{} // wakes Watch when Condition has found another state
}

// New returns a Tracker that has seen nothing yet.
func New(s Sources) *Tracker {
	if s.Now == nil {
		s.Now = time.Now
	}
	return &Tracker{Sources: s, news: make(chan struct{}, 1)}
}

// Stop makes the condition Stopping from now on.
func (t *Tracker) Stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopping = true
}

// Saw notes the committed state of the chain.
func (t *Tracker) Saw(s chain.State) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.Height >= t.state.Height || s.Period > t.state.Period {
		t.state = s
	}
}

// Seen returns the newest state of the chain that was noted.
func (t *Tracker) Seen() chain.State {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state
}

// Condition returns the present condition. It does not wait.
func (t *Tracker) Condition() consensus.Condition {
	down, core := t.Down(), t.CoreDown()
	said, says := t.Driver()
	held := ""
	if t.Held != nil {
		held = t.Held()
	}
	disk := t.Disk.look(t.Now())

	t.mu.Lock()
	defer t.mu.Unlock()

	c := consensus.Condition{State: consensus.Ready}
	if says {
		c = said
	}
	c.Height = max(c.Height, t.state.Height)

	switch {
	case t.stopping:
		c.Is(consensus.Stopping, "the node was told to stop")
	case disk != "":
		c.Is(consensus.DiskFull, "%s", disk)
	case core != "" && t.last.State == "" || core != "" && t.last.State == consensus.Starting:
		c.Is(consensus.Starting, "%s", core)
	case core != "":
		c.Is(consensus.Down, "%s", core)
	case held != "": // the driver waits there, and what it says comes of it
		c.Is(consensus.Held, "%s", held)
	case says && c.State != consensus.Ready: // the driver knows more than that its process does not run
	case down != "" && (t.last.State == "" || t.last.State == consensus.Starting):
		c.Is(consensus.Starting, "%s", down)
	case down != "":
		c.Is(consensus.Down, "%s", down)
	case !t.state.Started():
		c.Is(consensus.Starting, "the chain has not started")
	}

	clock(&c, t.state, t.Now())

	if c.Since = t.last.Since; c.State != t.last.State {
		c.Since = t.Now()
		select {
		case t.news <- struct{}{}:
		default:
		}
	}
	t.last = c

	return c
}

// Watch calls changed with each new condition until ctx ends, the first one included. If only the
// reason changes, it does so at most once in againEvery.
func (t *Tracker) Watch(ctx context.Context, changed func(consensus.Condition)) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()

	var told consensus.Condition
	var at time.Time

	for {
		t.ask(ctx)

		// A number in the reason changes all the time. Another state, or another warning, is news.
		c, now := t.Condition(), t.Now()
		if !c.Like(told) || !c.Same(told) && now.Sub(at).Abs() >= againEvery {
			told, at = c, now
			changed(c)
		}

		select {
		case <-look.C:
		case <-t.news: // somebody else's look has found what this one would
		case <-ctx.Done():
			return
		}
	}
}

// ask reads the state of the chain, unless the core is down.
func (t *Tracker) ask(ctx context.Context) {
	if t.CoreDown() != "" {
		return
	}

	ctx, cancel := context.WithTimeout(ctx, lookEvery)
	defer cancel()

	if s, err := t.Chain(ctx); err == nil {
		t.Saw(s)
	}
}

// Event returns the event that reports c on the bus and in the streams of events.
func Event(c consensus.Condition) engines.ReadinessChanged {
	e := engines.ReadinessChanged{Ready: c.Able(), State: string(c.State), Reason: c.Reason, Since: c.Since}
	if c.Hold != nil && c.Able() {
		e.Reason = "in hold: " + c.Hold.String()
	}
	return e
}
