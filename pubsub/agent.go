package pubsub

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// output receives an agent's events: it is the mailbox of a child agent, or a subscription. deliver
// copies the batch and never waits. tail is the number of events that are missing after the batch.
type output[E any] interface {
	deliver(batch []entry[E], tail uint64)
}

// agent is one node of the tree of filters, whose root is the broker. It receives the events of its
// parent, and hands those that its filter matches to its child agents and its subscribers. Only the
// registry's goroutine touches the fields that the registry owns.
//
// The agents of one Equal attribute under one parent have no goroutine of their own: an index agent
// serves them, which is an agent without a filter; see index.
type agent[E any] struct {
	id      string
	filter  Filter[E] // nil for the broker
	chain   Chain[E]
	in      *mailbox[E]
	outputs outputs[E]
	retired chan struct{}   // closed by the registry when the agent has no output any more: the agent ends normally
	fenced  <-chan struct{} // closed when the agent's incarnation was replaced while the agent ran

	// how many events went into the buffers of its subscribers, and how many their policies dropped
	delivered, dropped atomic.Uint64

	index *index[E] // of an index agent, and of the agents that it serves; nil for any other

	// Owned by the registry.
	parent      *agent[E]
	children    map[string]*agent[E]        // by the key of their filter
	indexes     map[*Attribute[E]]*agent[E] // the index agents that serve some of the children
	subscribers atomic.Int64                // atomic because Stats reads it
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
		indexes:  make(map[*Attribute[E]]*agent[E]),
	}

	if filter != nil {
		a.chain = append(parent.chain[:len(parent.chain):len(parent.chain)], filter)
	}
	return a
}

// name returns the name of the agent for reasons.
func (a *agent[E]) name() string {
	switch {
	case a.parent == nil:
		return a.id
	case a.filter == nil:
		return fmt.Sprintf("index agent of %s under %q", a.index.of.name, a.parent.chain)
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
			if a.index != nil {
				a.index.handOn(batch, tail)
				break
			}
			// List the outputs after the take, so that an output that was added before an event was
			// published gets that event.
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

// handOn filters the batch in place and delivers it. The gap before an event that does not match is
// added to the gap before the next event.
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

// outputs is the set of an agent's outputs. The registry adds and removes them; the agent lists
// them.
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

// list returns the members. last is the result of the previous call. list returns it again while
// nothing has changed, so that an event costs no walk of the set.
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
