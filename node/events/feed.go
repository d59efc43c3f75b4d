package events

import (
	"sync"

	"github.com/coppice-go/coppice/engines"
)

// feed is a ring of the newest live events: those of the tree, and changes of readiness. Any number
// of readers read it, each from its own place. Adding an event costs the same however many readers
// there are.
type feed struct {
	mu   sync.Mutex
	ring []engines.Event
	next uint64        // number of events so far
	news chan struct{} // closed and replaced at each event
}

func newFeed(size int) *feed {
	return &feed{ring: make([]engines.Event, size), news: make(chan struct{})}
}

// add adds an event. It never waits.
func (f *feed) add(e engines.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ring[f.next%uint64(len(f.ring))] = e
	f.next++
	close(f.news)
	f.news = make(chan struct{})
}

// end returns the place after the newest event.
func (f *feed) end() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next
}

// changed returns a channel that is closed at the next event.
func (f *feed) changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.news
}

// read appends the events that begin at place from to batch, until batch is at its capacity, and
// returns batch and the place after its last event. missed is the number of events that the ring
// had overwritten before they were read.
func (f *feed) read(from uint64, batch []engines.Event) (_ []engines.Event, missed, next uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()

	if size := uint64(len(f.ring)); f.next-from > size {
		missed = f.next - from - size
		from = f.next - size
	}

	for ; from < f.next && len(batch) < cap(batch); from++ {
		batch = append(batch, f.ring[from%uint64(len(f.ring))])
	}

	return batch, missed, from
}
