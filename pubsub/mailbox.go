package pubsub

import "sync"

// mailbox holds the events that the broker or an agent has not handled yet. A put never waits: an
// event beyond the bound is dropped, and a gap keeps its place. The receiver takes all events at
// once, so beside those in the mailbox it may hold as many again.
type mailbox[E any] struct {
	wake chan struct{} // holds a token whenever there may be something to take

	mu      sync.Mutex
	q       ring[E]
	dropped uint64
}

func newMailbox[E any](bound int) *mailbox[E] {
	return &mailbox[E]{wake: make(chan struct{}, 1), q: ring[E]{bound: bound}}
}

// put adds an event if there is room for it, and reports whether there was.
func (m *mailbox[E]) put(e E) bool {
	m.mu.Lock()
	fits := m.add(entry[E]{event: e})
	m.mu.Unlock()
	signal(m.wake)
	return fits
}

// deliver puts a batch, and counts tail events as missing after it.
func (m *mailbox[E]) deliver(batch []entry[E], tail uint64) {
	m.mu.Lock()
	for _, e := range batch {
		m.add(e)
	}
	m.q.gap(tail)
	m.mu.Unlock()
	signal(m.wake)
}

func (m *mailbox[E]) add(e entry[E]) bool {
	if m.q.full() {
		m.q.gap(e.missed + 1)
		m.dropped++
		return false
	}
	m.q.push(e)
	return true
}

// take appends all waiting events to batch; tail events are missing after them.
func (m *mailbox[E]) take(batch []entry[E]) (_ []entry[E], tail uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.q.drain(batch)
}

// state returns how many events wait, and how many were dropped since the start.
func (m *mailbox[E]) state() (waiting int, dropped uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.q.n, m.dropped
}

func signal(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default: // there is a token already
	}
}
