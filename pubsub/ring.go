package pubsub

// entry is an event with the number of events that are missing just before it.
type entry[E any] struct {
	event  E
	missed uint64
}

// ring is a bounded first-in-first-out queue in which missing events keep their place: each entry
// counts the events that are missing before it, and tail counts those after the last entry. It
// starts small and doubles up to its bound. Its owner does the locking.
type ring[E any] struct {
	entries []entry[E] // a circle of n entries from head on
	head, n int
	bound   int
	tail    uint64
}

func (r *ring[E]) full() bool { return r.n == r.bound }

// push appends an entry. The ring must not be full.
func (r *ring[E]) push(e entry[E]) {
	if r.n == len(r.entries) {
		grown := make([]entry[E], min(max(2*r.n, 8), r.bound))
		k := copy(grown, r.entries[r.head:])
		copy(grown[k:], r.entries[:r.head])
		r.entries, r.head = grown, 0
	}

	e.missed += r.tail
	r.tail = 0
	r.entries[(r.head+r.n)%len(r.entries)] = e
	r.n++
}

// gap notes that n more events are missing after the last entry.
func (r *ring[E]) gap(n uint64) { r.tail += n }

// pop removes and returns the first entry. The ring must not be empty.
func (r *ring[E]) pop() entry[E] {
	e := r.entries[r.head]
	r.entries[r.head] = entry[E]{} // the ring must not keep the event alive
	r.head = (r.head + 1) % len(r.entries)
	r.n--
	return e
}

// dropOldest removes the first entry and leaves a gap in its place. The ring must not be empty.
func (r *ring[E]) dropOldest() {
	lost := r.pop().missed + 1
	if r.n == 0 {
		r.tail += lost
	} else {
		r.entries[r.head].missed += lost
	}
}

// takeGap returns how many events are missing before the next entry, or after the last one if there
// is no next, and forgets them.
func (r *ring[E]) takeGap() uint64 {
	at := &r.tail
	if r.n > 0 {
		at = &r.entries[r.head].missed
	}
	missed := *at
	*at = 0
	return missed
}

// drain appends all entries to batch, empties the ring, and returns how many events are missing
// after the last of them.
func (r *ring[E]) drain(batch []entry[E]) (_ []entry[E], tail uint64) {
	for r.n > 0 {
		batch = append(batch, r.pop())
	}
	tail, r.tail = r.tail, 0
	return batch, tail
}

// clear forgets everything.
func (r *ring[E]) clear() { *r = ring[E]{bound: r.bound} }
