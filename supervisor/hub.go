package supervisor

import (
	"context"
	"fmt"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"time"
)

// hub is the memory of one root: its events, who observes them, and the orphans of its whole tree. Its lock is the innermost: nothing is called under it.
type hub struct {
	root string
	id   uint64 // of the root's own incarnation

	expiries expiries

	mu      sync.Mutex
	seq     uint64
	history []Event // a ring once it is HistorySize long; next is where the oldest is
	next    int
	subs    []*subscription
	orphans map[uint64]*incarnation
}

// subscription feeds one observer from a queue. Its goroutine exists while there is something in the queue.
type subscription struct {
	observer Observer
	prefix   string // path of the subtree it is about
	queue    []Event
	dropped  uint64
	pumping  bool
	idle     []chan struct{} // closed when the queue is next empty
}

func newHub(root string) *hub { return &hub{root: root, orphans: map[uint64]*incarnation{}} }

// within says whether path is prefix or below it.
func within(path, prefix string) bool {
	return prefix == "" || path == prefix || (strings.HasPrefix(path, prefix) && path[len(prefix)] == '/')
}

func (h *hub) emit(path string, incarnation uint64, event func(Header) Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.emitLocked(path, incarnation, event)
}

func (h *hub) emitLocked(path string, incarnation uint64, event func(Header) Event) {
	h.seq++
	e := event(Header{Seq: h.seq, Time: time.Now(), Root: h.root, Path: path, Incarnation: incarnation})
	if len(h.history) < HistorySize {
		h.history = append(h.history, e)
	} else {
		h.history[h.next] = e
		h.next = (h.next + 1) % HistorySize
	}
	for _, s := range h.subs {
		if !within(path, s.prefix) {
			continue
		}
		if len(s.queue) >= ObserverBacklog {
			s.dropped++
			continue
		}
		s.queue = append(s.queue, e)
		if !s.pumping {
			s.pumping = true
			go h.pump(s)
		}
	}
}

// pump delivers until the queue is empty.
func (h *hub) pump(s *subscription) {
	pprof.SetGoroutineLabels(context.Background()) // it is of whoever emitted first, and not of that child
	returned := false
	defer func() {
		if returned {
			return
		}
		// The observer panicked or called runtime.Goexit: it is broken, the tree is not.
		var err error = ErrGoexit
		if v := recover(); v != nil {
			err = newPanic(v)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.detachLocked(s)
		h.emitLocked(s.prefix, 0, func(hd Header) Event {
			return ObserverFailed{Header: hd, Err: fmt.Errorf("observer %T: %w", s.observer, err)}
		})
	}()
	for {
		batch := h.take(s)
		if batch == nil {
			returned = true
			return
		}
		for _, e := range batch {
			s.observer.Observe(e)
		}
	}
}

// take empties the queue, nil when it was empty.
func (h *hub) take(s *subscription) []Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	batch := s.queue
	s.queue = nil
	if s.dropped > 0 {
		batch = append(batch, EventsDropped{Header: Header{Time: time.Now(), Root: h.root, Path: s.prefix}, Count: s.dropped})
		s.dropped = 0
	}
	if len(batch) == 0 {
		s.pumping = false
		s.wakeLocked()
		return nil
	}
	return batch
}

func (s *subscription) wakeLocked() {
	for _, c := range s.idle {
		close(c)
	}
	s.idle = nil
}

func (h *hub) subscribe(o Observer, prefix string) (*subscription, []Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &subscription{observer: o, prefix: prefix}
	h.subs = append(h.subs, s)
	return s, h.pastLocked(prefix)
}

func (h *hub) detach(s *subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.detachLocked(s)
}

func (h *hub) detachLocked(s *subscription) {
	h.subs = slices.DeleteFunc(h.subs, func(x *subscription) bool { return x == s })
	s.queue, s.dropped = nil, 0
	s.wakeLocked()
}

// release takes a subscription off the list, but lets it deliver what it has.
func (h *hub) release(s *subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subs = slices.DeleteFunc(h.subs, func(x *subscription) bool { return x == s })
}

func (h *hub) past(prefix string) []Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pastLocked(prefix)
}

func (h *hub) pastLocked(prefix string) []Event {
	out := make([]Event, 0, len(h.history))
	for i := range h.history {
		if e := h.history[(h.next+i)%len(h.history)]; within(e.Head().Path, prefix) {
			out = append(out, e)
		}
	}
	return out
}

// flush waits until every observer of the subtree has seen what was emitted before.
func (h *hub) flush(ctx context.Context, prefix string) error {
	h.mu.Lock()
	var waits []chan struct{}
	for _, s := range h.subs {
		if s.pumping && within(s.prefix, prefix) {
			c := make(chan struct{})
			s.idle = append(s.idle, c)
			waits = append(waits, c)
		}
	}
	h.mu.Unlock()
	for _, c := range waits {
		select {
		case <-c:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (h *hub) addOrphan(inc *incarnation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.orphans[inc.id] = inc
}

func (h *hub) removeOrphan(inc *incarnation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.orphans, inc.id)
}

func (h *hub) orphansWithin(prefix string) []*incarnation {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []*incarnation
	for _, inc := range h.orphans {
		if within(inc.path, prefix) {
			out = append(out, inc)
		}
	}
	slices.SortFunc(out, func(a, b *incarnation) int { return int(int64(a.id) - int64(b.id)) })
	return out
}
