package pubsub

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// output is what an agent hands its events to: a child agent's mailbox, or a subscription. deliver
// takes a copy of the batch, after which tail events are missing; it never waits.
type output[E any] interface {
	deliver(batch []entry[E], tail uint64)
}

// agent is one node of the tree of filters, and the broker is its root. It receives the events of
// its parent, and hands those that its filter matches to its child agents and its subscribers. What
// the registry owns is touched by the registry's goroutine only.
type agent[E any] struct {
	id      string
	filter  Filter[E] // nil for the broker
	chain   Chain[E]
	in      *mailbox[E]
	outputs outputs[E]
	retired chan struct{}   // closed by the registry when nobody is behind the agent any more: it ends normally
	fenced  <-chan struct{} // closed when the agent's incarnation was replaced under it

	// events put into the buffers of its subscribers, and dropped there by their policies
	delivered, dropped atomic.Uint64

	// Owned by the registry.
	parent      *agent[E]
	children    map[string]*agent[E] // by the key of their filter
	subscribers atomic.Int64         // atomic because Stats reads it
}

func newAgent[E any](in *incarnation[E], id string, parent *agent[E], filter Filter[E]) *agent[E] {
	a := &agent[E]{
		id:       id,
		filter:   filter,
		in:       newMailbox[E](in.bus.options.Mailbox),
		retired:  make(chan struct{}),
		fenced:   in.fenced,
		parent:   parent,
		children: make(map[string]*agent[E]),
	}

	if parent != nil {
		a.chain = append(parent.chain[:len(parent.chain):len(parent.chain)], filter)
	}
	return a
}

// name is what reasons call the agent.
func (a *agent[E]) name() string {
	if a.parent == nil {
		return a.id
	}
	return fmt.Sprintf("filter agent %s", a.chain)
}

// run hands events on until the agent is retired, which is its normal end, or ctx ends.
func (a *agent[E]) run(ctx context.Context, faults faults) error {
	var (
		batch []entry[E]
		tail  uint64
		outs  []output[E]
	)
	for {
		select {
		case <-a.in.wake:
			batch, tail = a.in.take(batch[:0])
			// Read after the take: whoever was added before an event was published is seen with it.
			outs = a.outputs.list(outs)
			a.handOn(outs, batch, tail)

		case <-a.retired:
			return nil

		case <-a.fenced:
			return errFenced

		case f := <-faults:
			f.Do(ctx)

		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// handOn filters the batch in place and delivers it. What was missing before an event that does not
// match is missing before the next one.
func (a *agent[E]) handOn(outs []output[E], batch []entry[E], tail uint64) {
	matched := batch
	if a.filter != nil {
		matched = batch[:0]
		var missed uint64

		for _, e := range batch {
			missed += e.missed
			if a.filter.Match(e.event) {
				e.missed, missed = missed, 0
				matched = append(matched, e)
			}
		}

		tail += missed
	}

	if len(matched) > 0 || tail > 0 {
		for _, out := range outs {
			out.deliver(matched, tail)
		}
	}

	clear(batch) // keep no event alive while waiting for the next
}

// outputs is the set of those that an agent hands its events to. The registry adds and removes; the
// agent lists.
type outputs[E any] struct {
	mu      sync.Mutex
	members map[output[E]]struct{}
	changed bool
}

func (o *outputs[E]) add(out output[E]) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.members == nil {
		o.members = make(map[output[E]]struct{})
	}
	o.members[out] = struct{}{}
	o.changed = true
}

func (o *outputs[E]) remove(out output[E]) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.members, out)
	o.changed = true
}

// list answers the members. last is what list answered before; it is answered again while nothing
// changed, so that an event costs no walk of the set.
func (o *outputs[E]) list(last []output[E]) []output[E] {
	o.mu.Lock()
	defer o.mu.Unlock()

	if !o.changed {
		return last
	}

	o.changed = false
	clear(last)
	last = last[:0]
	for out := range o.members {
		last = append(last, out)
	}

	return last
}
