package pubsub

import "sync"

// index serves the agents of one Equal attribute under one parent, in the goroutine of an index
// agent. It asks an event for its value once and finds the agent by it, so the cost of an event
// does not grow with the number of agents. A get that hangs holds up these agents and no others.
//
// A gap keeps its place for each agent: the index counts all events that are missing so far, and
// remembers for each agent how many of them the agent has been told of.
type index[E any] struct {
	of *Attribute[E]

	mu      sync.Mutex
	entries map[string]*indexed[E] // by the value of the agent's filter
	lost    uint64                 // events that were missing, since the start

	// Owned by the index agent's goroutine.
	values []string
	events links[E]
	told   []*indexed[E] // the agents to which something is handed on
}

// indexed is an agent that an index serves.
type indexed[E any] struct {
	agent *agent[E]
	seen  uint64 // the part of index.lost that the agent has been told of; index.mu guards it

	// Owned by the index agent's goroutine.
	outs        []output[E]
	first, last int    // its events of the batch, in links; 0 if there are none
	tail        uint64 // what is missing after them
}

// links are the events of a batch, those of one agent linked to one another, from 1.
type links[E any] struct {
	list []link[E]
	one  []entry[E] // the events of one agent
}

type link[E any] struct {
	entry entry[E]
	next  int
}

func newIndex[E any](of *Attribute[E]) *index[E] {
	return &index[E]{of: of, entries: make(map[string]*indexed[E])}
}

// add makes the index serve a.
func (x *index[E]) add(value string, a *agent[E]) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.entries[value] = &indexed[E]{agent: a, seen: x.lost}
}

// remove removes the agent of a value, and returns how many agents are left.
func (x *index[E]) remove(value string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.entries, value)
	return len(x.entries)
}

// handOn hands each event of a batch to the agent of its value, and each agent the gap that it has
// not been told of. The batch is cleared.
func (x *index[E]) handOn(batch []entry[E], tail uint64) {
	x.read(batch)
	// The entries are looked up after the batch was taken, so that an agent which was added before
	// an event was published gets that event.
	x.match(batch, tail)
	clear(batch)
	x.deliver()
}

// read asks each event for its value. It holds no lock, because get may hang or panic.
func (x *index[E]) read(batch []entry[E]) {
	x.values = x.values[:0]
	for _, e := range batch {
		x.values = append(x.values, x.of.get(e.event))
	}
}

// match links the events of the batch to the agents that get them, and lists those agents in told.
func (x *index[E]) match(batch []entry[E], tail uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()

	before := x.lost
	for i, e := range batch {
		x.lost += e.missed
		to := x.entries[x.values[i]]
		if to == nil {
			continue
		}

		e.missed, to.seen = x.lost-to.seen, x.lost
		if to.first == 0 {
			x.told = append(x.told, to)
		}
		x.events.add(to, e)
	}
	x.lost += tail

	if x.lost != before { // a loss that no event follows is handed on too, to all
		for _, to := range x.entries {
			if to.seen < x.lost && to.first == 0 {
				x.told = append(x.told, to)
			}
		}
	}

	for _, to := range x.told {
		to.tail, to.seen = x.lost-to.seen, x.lost
	}
}

// deliver hands the linked events and the gaps to the outputs of the agents.
func (x *index[E]) deliver() {
	for _, to := range x.told {
		matched := x.events.of(to)
		to.outs = to.agent.outputs.list(to.outs)
		for _, out := range to.outs {
			out.deliver(matched, to.tail)
		}
		to.first, to.last = 0, 0
	}

	clear(x.told)
	x.told = x.told[:0]
	x.events.clear()
	clear(x.values)
}

// add links an event to the agent that gets it.
func (l *links[E]) add(to *indexed[E], e entry[E]) {
	l.list = append(l.list, link[E]{entry: e})
	at := len(l.list)
	if to.first == 0 {
		to.first = at
	} else {
		l.list[to.last-1].next = at
	}
	to.last = at
}

// of returns the events of an agent. They are valid until the next call.
func (l *links[E]) of(to *indexed[E]) []entry[E] {
	l.one = l.one[:0]
	for at := to.first; at != 0; at = l.list[at-1].next {
		l.one = append(l.one, l.list[at-1].entry)
	}
	return l.one
}

// clear forgets the events, and keeps none alive.
func (l *links[E]) clear() {
	clear(l.list)
	clear(l.one[:cap(l.one)])
	l.list, l.one = l.list[:0], l.one[:0]
}
