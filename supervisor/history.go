package supervisor

import "time"

// entry is one event as a tree keeps it: a value, so that an event that nobody looks at costs no
// memory. It becomes an [Event] for an observer or a reader. The events of each start, end and
// restart have a kind of their own; the others are made at once.
type entry struct {
	seq         uint64
	at          time.Time
	path        string
	incarnation uint64
	kind        entryKind
	restart     Restart       // of entryExited
	flag        bool          // Explicit of entryStarted, Reported of entryExited
	attempt     int           // of entryScheduled, as inWindow is
	inWindow    int           //
	span        time.Duration // Took of entryStarted, Delay of entryScheduled
	exit        *Exit         // of entryExited and entryStopped; it is not changed any more
	made        Event         // of entryMade
}

// entryKind says which event an entry is.
type entryKind uint8

const (
	entryMade entryKind = iota
	entryStarting
	entryStarted
	entryExited
	entryStopped
	entryScheduled
)

// event returns the Event of the root with that name.
func (e *entry) event(root string) Event {
	h := Header{Seq: e.seq, Time: e.at, Root: root, Path: e.path, Incarnation: e.incarnation}
	switch e.kind {
	case entryStarting:
		return ChildStarting{Header: h}
	case entryStarted:
		return ChildStarted{Header: h, Explicit: e.flag, Took: e.span}
	case entryExited:
		return ChildExited{Header: h, Exit: *e.exit, Restart: e.restart, Reported: e.flag}
	case entryStopped:
		return ChildStopped{Header: h, Exit: *e.exit}
	case entryScheduled:
		return RestartScheduled{Header: h, Attempt: e.attempt, InWindow: e.inWindow, Delay: e.span}
	default:
		return e.made
	}
}

// history has the newest entries, in order: at most size of them, as a ring once it is full.
type history struct {
	size   int
	oldest int // where the oldest is, once the ring is full
	ring   []entry
}

// next appends an entry for the caller to fill in, in the place of the oldest if the ring is full.
func (h *history) next() *entry {
	if len(h.ring) < h.size {
		h.ring = append(h.ring, entry{})
		return &h.ring[len(h.ring)-1]
	}

	e := &h.ring[h.oldest]
	*e = entry{}
	if h.oldest++; h.oldest == h.size {
		h.oldest = 0
	}
	return e
}

// add appends a copy of e, and reports whether the oldest entry was lost for it.
func (h *history) add(e *entry) (lost bool) {
	lost = len(h.ring) == h.size
	*h.next() = *e
	return lost
}

// events returns the events of the subtree below prefix, oldest first.
func (h *history) events(root, prefix string) []Event {
	out := make([]Event, 0, len(h.ring))
	for i := range h.ring {
		at := h.oldest + i
		if at >= len(h.ring) {
			at -= len(h.ring)
		}
		if e := &h.ring[at]; within(e.path, prefix) {
			out = append(out, e.event(root))
		}
	}
	return out
}
