package supervisor

import (
	"context"
	"fmt"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// hub holds what the whole tree of one root shares: its events, their observers, and its orphans.
// Its lock is the innermost: a goroutine that holds it takes no other lock and calls no observer.
type hub struct {
	root string
	id   uint64 // of the root's own incarnation

	expiries expiries
	bounds   bounds
	changes  signal // fires after every change of a snapshot
	watches  watches

	mu      sync.Mutex
	seq     uint64
	last    time.Time // of the newest event
	heard   bool      // some observer or Watch wants events
	history history
	subs    []*subscription
	lanes   map[place]*lane // of the observers that specifications name
	orphans map[uint64]*incarnation
	reports reports
}

// subscription feeds one observer from a queue.
type subscription struct {
	observer Observer
	prefix   string // path of the subtree that it observes
	lane     *lane
	queue    []entry
	dropped  uint64
	released bool // gets no more events, but delivers those it has
}

// place is the position of an observer in the specification of the supervisor at a path.
type place struct {
	path  string
	index int
}

// lane delivers the events of its subscriptions, one subscription after the other, the oldest
// first. Subscriptions share a lane if they belong to one place. The observer in one place is
// usually the same in each run of that supervisor, and the previous run's subscription may have
// much to deliver yet when the next run begins. The lane's goroutine exists only while there is
// something to deliver.
type lane struct {
	at      place
	subs    []*subscription
	pumping bool
	idle    []chan struct{} // closed as soon as there is nothing to deliver
}

// signal tells those who wait that something has changed. It costs next to nothing if nobody waits.
type signal struct{ waiting atomic.Pointer[chan struct{}] }

// next returns a channel that is closed when fire is called next.
func (s *signal) next() <-chan struct{} {
	for {
		if c := s.waiting.Load(); c != nil {
			return *c
		}
		c := make(chan struct{})
		if s.waiting.CompareAndSwap(nil, &c) {
			return c
		}
	}
}

// fire wakes those who wait. It may be called with any lock held.
func (s *signal) fire() {
	if c := s.waiting.Load(); c != nil && s.waiting.CompareAndSwap(c, nil) {
		close(*c)
	}
}

func newHub(root string) *hub {
	h := &hub{root: root, history: history{size: HistorySize}, lanes: map[place]*lane{},
		orphans: map[uint64]*incarnation{}}
	l := &lane{}
	h.reports.sub, h.reports.lane = &subscription{observer: defaultLogger{}, lane: l}, l
	l.subs = []*subscription{h.reports.sub}
	return h
}

// within reports whether path is prefix or below it.
func within(path, prefix string) bool {
	return prefix == "" || path == prefix || (strings.HasPrefix(path, prefix) && path[len(prefix)] == '/')
}

// emit adds one event that has no kind of entry.
func (h *hub) emit(path string, incarnation uint64, event func(Header) Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.emitLocked(path, incarnation, event)
}

func (h *hub) emitLocked(path string, incarnation uint64, event func(Header) Event) {
	e := h.place(time.Now(), entryMade, path, incarnation)
	e.made = event(Header{Seq: e.seq, Time: e.at, Root: h.root, Path: path, Incarnation: incarnation})
	h.pass(e)
}

// The functions below add one event each, at the time now, which the caller has read. They run on
// the small stacks of new goroutines, so they fill in the entry where it stays.

func (h *hub) noteStarting(inc *incarnation, now time.Time) {
	h.mu.Lock()
	h.pass(h.place(now, entryStarting, inc.path, inc.id))
	h.mu.Unlock()
}

// noteStarted adds ChildStarted of inc and, unless next is nil, ChildStarting of next.
func (h *hub) noteStarted(inc *incarnation, explicit bool, next *incarnation, now time.Time) {
	h.mu.Lock()
	e := h.place(now, entryStarted, inc.path, inc.id)
	e.flag, e.span = explicit, now.Sub(inc.began)
	h.pass(e)
	if next != nil {
		h.pass(h.place(now, entryStarting, next.path, next.id))
	}
	h.mu.Unlock()
}

func (h *hub) noteExited(inc *incarnation, r Restart, reported bool, now time.Time) {
	h.mu.Lock()
	e := h.place(now, entryExited, inc.path, inc.id)
	e.exit, e.restart, e.flag = inc.exit(), r, reported
	h.pass(e)
	h.mu.Unlock()
}

func (h *hub) noteStopped(inc *incarnation, now time.Time) {
	h.mu.Lock()
	e := h.place(now, entryStopped, inc.path, inc.id)
	e.exit = inc.exit()
	h.pass(e)
	h.mu.Unlock()
}

func (h *hub) noteScheduled(path string, attempt, inWindow int, delay time.Duration, now time.Time) {
	h.mu.Lock()
	e := h.place(now, entryScheduled, path, 0)
	e.attempt, e.inWindow, e.span = attempt, inWindow, delay
	h.pass(e)
	h.mu.Unlock()
}

// place adds an entry to the history, and returns it. The caller fills it in and passes it on
// before it releases the lock. Times do not go back, even if another goroutine read the clock later
// and came earlier.
func (h *hub) place(now time.Time, kind entryKind, path string, incarnation uint64) *entry {
	if h.last.Before(now) {
		h.last = now
	}
	h.seq++
	e := h.history.next()
	e.seq, e.at, e.kind, e.path, e.incarnation = h.seq, h.last, kind, path, incarnation
	return e
}

// pass passes an event on to those who want it.
func (h *hub) pass(e *entry) {
	if h.heard || e.kind == entryMade || e.kind == entryExited {
		h.passOn(e)
	}
}

func (h *hub) passOn(e *entry) {
	for _, w := range h.watches.all() {
		w.note(e)
	}

	seen := false
	for _, s := range h.subs {
		if within(e.path, s.prefix) {
			seen = true
			h.queueLocked(s, e)
		}
	}

	if !seen {
		h.reportLocked(e)
	}
}

// queueLocked queues an event for one observer.
func (h *hub) queueLocked(s *subscription, e *entry) {
	if _, none := s.observer.(discard); none {
		return
	}

	if len(s.queue) >= ObserverBacklog {
		s.dropped++
		return
	}

	s.queue = append(s.queue, *e)
	h.startLocked(s.lane)
}

// hearLocked notes whether there is anybody who wants events.
func (h *hub) hearLocked() {
	h.heard = len(h.watches.all()) > 0 || slices.ContainsFunc(h.subs, func(s *subscription) bool {
		_, none := s.observer.(discard)
		return !none
	})
}

func (h *hub) startLocked(l *lane) {
	if !l.pumping {
		l.pumping = true
		go h.pump(l)
	}
}

// pump delivers until the queues are empty.
func (h *hub) pump(l *lane) {
	var s *subscription
	pprof.SetGoroutineLabels(context.Background()) // not the labels of the child that emitted first
	returned := false
	defer func() {
		if returned {
			return
		}

		// The observer panicked or called runtime.Goexit. The observer is broken, the tree is not.
		var err error = ErrGoexit
		if v := recover(); v != nil {
			err = newPanic(v)
		}

		h.mu.Lock()
		defer h.mu.Unlock()

		l.pumping = false
		h.detachLocked(s)

		if slices.ContainsFunc(l.subs, func(x *subscription) bool { return len(x.queue) > 0 }) {
			h.startLocked(l)
		} else {
			l.wakeLocked()
		}

		h.emitLocked(s.prefix, 0, func(hd Header) Event {
			return ObserverFailed{Header: hd, Err: fmt.Errorf("observer %T: %w", s.observer, err)}
		})
	}()

	for {
		var batch []entry
		if s, batch = h.take(l); batch == nil {
			returned = true
			return
		}
		for i := range batch {
			s.observer.Observe(batch[i].event(h.root))
		}
	}
}

// take empties the oldest queue that has events and returns them. It returns nil when all queues
// are empty.
func (h *hub) take(l *lane) (*subscription, []entry) {
	h.mu.Lock()
	defer h.mu.Unlock()

	for _, s := range l.subs {
		batch := s.queue
		s.queue = nil

		if s.dropped > 0 {
			at := Header{Time: time.Now(), Root: h.root, Path: s.prefix}
			batch = append(batch, entry{made: EventsDropped{Header: at, Count: s.dropped}})
			s.dropped = 0
		}

		if len(batch) > 0 {
			return s, batch
		}
	}

	l.pumping = false
	l.wakeLocked()
	h.tidyLocked(l)

	return nil, nil
}

func (l *lane) wakeLocked() {
	for _, c := range l.idle {
		close(c)
	}
	l.idle = nil
}

// tidyLocked removes the subscriptions that are over from their lane, and removes the lane when it
// has none left.
func (h *hub) tidyLocked(l *lane) {
	if l.pumping {
		return // its goroutine calls this at its end
	}
	l.subs = slices.DeleteFunc(l.subs, func(s *subscription) bool {
		return s.released && len(s.queue) == 0 && s.dropped == 0
	})

	if len(l.subs) == 0 && h.lanes[l.at] == l {
		delete(h.lanes, l.at)
	}
}

// subscribe adds an observer of the subtree below prefix. It returns the past events of that
// subtree.
func (h *hub) subscribe(o Observer, prefix string) (*subscription, []Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.subscribeLocked(o, prefix, &lane{}), h.pastLocked(prefix)
}

// subscribeSpec adds the observers of a specification.
func (h *hub) subscribeSpec(observers []Observer, prefix string) []*subscription {
	h.mu.Lock()
	defer h.mu.Unlock()

	subs := make([]*subscription, len(observers))

	for i, o := range observers {
		at := place{prefix, i}
		if h.lanes[at] == nil {
			h.lanes[at] = &lane{at: at}
		}
		subs[i] = h.subscribeLocked(o, prefix, h.lanes[at])
	}

	return subs
}

func (h *hub) subscribeLocked(o Observer, prefix string, l *lane) *subscription {
	s := &subscription{observer: o, prefix: prefix, lane: l}
	l.subs = append(l.subs, s)
	h.subs = append(h.subs, s)
	h.hearLocked()
	return s
}

func (h *hub) detach(s *subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.detachLocked(s)
}

func (h *hub) detachLocked(s *subscription) {
	if s == h.reports.sub {
		h.reports.sub = nil // the logger is broken
	}

	s.queue, s.dropped = nil, 0
	if !slices.ContainsFunc(s.lane.subs, func(x *subscription) bool { return x != s }) {
		s.lane.wakeLocked() // ends the waits of flush: the lane has nothing else to deliver
	}
	h.releaseLocked(s)
}

// release removes a subscription from the list, but lets it deliver the events that it has.
func (h *hub) release(s *subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.releaseLocked(s)
}

func (h *hub) releaseLocked(s *subscription) {
	h.subs = slices.DeleteFunc(h.subs, func(x *subscription) bool { return x == s })
	s.released = true
	h.hearLocked()
	h.tidyLocked(s.lane)
}

func (h *hub) past(prefix string) []Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pastLocked(prefix)
}

func (h *hub) pastLocked(prefix string) []Event { return h.history.events(h.root, prefix) }

// flush waits until every observer of the subtree has seen all events that were emitted before.
func (h *hub) flush(ctx context.Context, prefix string) error {
	h.mu.Lock()
	var lanes []*lane
	for _, s := range h.subs {
		if within(s.prefix, prefix) {
			lanes = append(lanes, s.lane)
		}
	}
	h.mu.Unlock()

	return h.flushLanes(ctx, lanes...)
}

// flushLanes waits until the lanes have delivered what they have.
func (h *hub) flushLanes(ctx context.Context, lanes ...*lane) error {
	h.mu.Lock()
	var waits []chan struct{}
	for _, l := range lanes {
		if l.pumping {
			c := make(chan struct{})
			l.idle = append(l.idle, c)
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
	h.changes.fire()
}

func (h *hub) removeOrphan(inc *incarnation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.orphans, inc.id)
	h.changes.fire()
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
