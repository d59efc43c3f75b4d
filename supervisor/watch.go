package supervisor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// WatchEvents is the number of events that a Watch keeps between two calls of Next. It counts
	// the older ones.
	WatchEvents = 256

	// A Watch lists a Dynamic with more than longCrowd instances, and a Supervisor with more than
	// longList children, at most once per listEach. As often it looks again at the supervisors
	// whose InWindow is not 0, because attempts leave a window by the passing of time.
	longCrowd = 64
	longList  = 1000
	listEach  = time.Second
)

// Snapshot is a tree and the place in the stream of events at which a Watch of it begins.
type Snapshot struct {
	Tree Tree
	// Seq is the number of the last event before the Watch. Every event after it comes from Next,
	// and whatever changes after it does too.
	Seq uint64
	// Events are the remembered events up to Seq, oldest first.
	Events []Event
	// Orphans is the number of orphans.
	Orphans int
}

// Delta is what has changed since the snapshot or the Delta before.
type Delta struct {
	// Seq is the number of the newest event so far. The changes show at least what it reported.
	Seq uint64
	// Changes are in the order of their paths, so that a supervisor comes before what is below it.
	Changes []Change
	// Events are the newest events, oldest first. Lost counts those before them that are left out.
	Events []Event
	Lost   uint64
	// Orphans is the number of orphans.
	Orphans int
}

// Change is a place as it is now. Replace the place at that path by it. A place that is not
// there yet comes after its siblings; a Change of the whole supervisor with the right order
// follows.
type Change struct {
	Tree
	// Whole: Children is complete and replaces what was below the place. Otherwise the change is
	// about the place alone, and Children and Busy are not set.
	Whole bool
	// Gone: there is no such place any more, and nothing below it. Only Path is set.
	Gone bool
}

// Watch follows a tree at the cost of what changes in it, however large the tree is. It has no
// goroutine, and the tree never waits for it: changes only mark their paths, and Next looks at the
// marked places. So a place that changes a thousand times between two calls of Next is one Change.
// How often Next is called decides how much the watching costs. One goroutine may use a Watch.
type Watch struct {
	scope    *scope
	snapshot Snapshot
	wake     chan struct{}

	// Of the goroutine that calls Next.
	listed map[string]time.Time // when a supervisor with many children was listed
	aging  map[string]bool      // supervisors with attempts in their window
	aged   time.Time
	last   bool // the run is over and has been told of

	mu     sync.Mutex // a leaf: hub.mu and every other lock may be held
	marks  map[string]bool
	events history
	lost   uint64
}

// watches are the Watches of one tree.
type watches struct{ list atomic.Pointer[[]*Watch] }

func (l *watches) all() []*Watch {
	if p := l.list.Load(); p != nil {
		return *p
	}
	return nil
}

// addLocked and removeLocked need hub.mu.
func (l *watches) addLocked(w *Watch) {
	list := append(slices.Clone(l.all()), w)
	l.list.Store(&list)
}

func (l *watches) removeLocked(w *Watch) {
	list := slices.DeleteFunc(slices.Clone(l.all()), func(x *Watch) bool { return x == w })
	if len(list) == 0 {
		l.list.Store(nil)
		return
	}
	l.list.Store(&list)
}

// touch has the Watches look at the place at path: alone or, if whole is set, at what is below it
// too. It is called with or after each change of a Tree, with any lock held.
func (h *hub) touch(path string, whole bool) {
	for _, w := range h.watches.all() {
		w.mark(path, whole)
	}
}

// touchKid is touch for a child of r.
func (h *hub) touchKid(r *core, id string) {
	if len(h.watches.all()) > 0 {
		h.touch(r.pathOf(id), false)
	}
}

func (w *Watch) mark(path string, whole bool) {
	if !within(path, w.scope.own.path) {
		return
	}
	w.mu.Lock()
	w.marks[path] = w.marks[path] || whole
	w.mu.Unlock()
	w.signal()
}

func (w *Watch) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// note keeps an event. hub.mu is held.
func (w *Watch) note(e *entry) {
	if !within(e.path, w.scope.own.path) {
		return
	}

	w.mu.Lock()
	if w.events.add(e) {
		w.lost++
	}
	w.mu.Unlock()
	w.signal()
}

// Watch begins to watch the subtree of this run. Call Close at the end.
func (s *scope) Watch() *Watch {
	w := &Watch{scope: s, wake: make(chan struct{}, 1), marks: map[string]bool{}, events: history{size: WatchEvents},
		listed: map[string]time.Time{}, aging: map[string]bool{}}

	s.hub.mu.Lock()
	s.hub.watches.addLocked(w)
	s.hub.hearLocked()
	w.snapshot.Seq, w.snapshot.Events = s.hub.seq, s.hub.pastLocked(s.own.path)
	s.hub.mu.Unlock()

	// From here on every change leaves a mark, so it does not matter which of them this tree has.
	w.snapshot.Orphans = len(s.hub.orphansWithin(s.own.path))
	w.snapshot.Tree, _ = s.look("", true)
	w.snapshot.Tree.Walk(w.remember)

	return w
}

// Watch calls Watch of the run.
func (h *handle) Watch() (*Watch, error) {
	r, err := h.living()
	if err != nil {
		return nil, err
	}
	return r.Watch(), nil
}

// Snapshot returns the tree with which the Watch began.
func (w *Watch) Snapshot() Snapshot { return w.snapshot }

// Close ends the Watch. Next must not be called any more.
func (w *Watch) Close() {
	w.scope.hub.mu.Lock()
	defer w.scope.hub.mu.Unlock()
	w.scope.hub.watches.removeLocked(w)
	w.scope.hub.hearLocked()
}

// Next waits until something has changed, and returns it. At the end of the run it returns the last
// changes, and then ErrNotRunning. If ctx ends first, it returns the cause.
func (w *Watch) Next(ctx context.Context) (Delta, error) {
	for {
		over := false
		select {
		case <-w.scope.done:
			over = true
		default:
		}

		if d, ok := w.collect(over); ok {
			return d, nil
		}
		if over {
			return Delta{}, w.scope.kids.(interface{ gone() error }).gone()
		}

		if err := w.wait(ctx); err != nil {
			return Delta{}, err
		}
	}
}

// wait returns at the next mark, at the end of the run, or when a delayed look is due.
func (w *Watch) wait(ctx context.Context) error {
	var due <-chan time.Time
	w.mu.Lock()
	delayed := len(w.marks) > 0
	w.mu.Unlock()

	if delayed || len(w.aging) > 0 {
		t := time.NewTimer(listEach)
		defer t.Stop()
		due = t.C
	}

	select {
	case <-w.wake:
	case <-due:
	case <-w.scope.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}

	return nil
}

// collect looks at the marked places. ok is false if there is nothing to tell. If all is set, it
// delays nothing.
func (w *Watch) collect(all bool) (d Delta, ok bool) {
	h := w.scope.hub
	h.mu.Lock()
	w.mu.Lock()
	marks, events := w.marks, w.events
	d.Seq, d.Lost = h.seq, w.lost
	w.marks, w.events, w.lost = map[string]bool{}, history{size: WatchEvents}, 0
	w.mu.Unlock()
	for _, inc := range h.orphans {
		if within(inc.path, w.scope.own.path) {
			d.Orphans++
		}
	}
	h.mu.Unlock()

	d.Events = events.events(h.root, "")

	if len(w.aging) > 0 && time.Since(w.aged) >= listEach {
		w.aged = time.Now()
		for path := range w.aging {
			marks[path] = marks[path] || false
		}
	}

	w.look(marks, all, &d)

	return d, len(d.Changes)+len(d.Events) > 0
}

// look adds the changes at the marked paths to d.
func (w *Watch) look(marks map[string]bool, all bool, d *Delta) {
	for path := range marks {
		if dynamic, ok := w.scope.dynamicAbove(path); ok {
			delete(marks, path)
			marks[dynamic] = true
		}
	}

	covered := ""
	have := false

	for _, path := range slices.Sorted(maps.Keys(marks)) {
		if have && within(path, covered) {
			continue // it is in what is above it
		}

		whole := marks[path]
		if whole && !all && w.delays(path) {
			w.mu.Lock()
			w.marks[path] = true
			w.mu.Unlock()
			whole = false
		}

		t, ok := w.scope.look(strings.TrimPrefix(strings.TrimPrefix(path, w.scope.own.path), "/"), whole)
		if !ok {
			d.Changes = append(d.Changes, Change{Tree: Tree{Path: path}, Gone: true})
			delete(w.aging, path)
			delete(w.listed, path)
			continue
		}

		if whole {
			covered, have = path, true
			t.Walk(w.remember)
		} else {
			w.remember(t)
		}
		d.Changes = append(d.Changes, Change{Tree: t, Whole: whole})
	}
}

// delays reports whether the supervisor at path is listed later, because its list is long and was
// made a moment ago.
func (w *Watch) delays(path string) bool {
	at, long := w.listed[path]
	return long && time.Since(at) < listEach
}

// remember keeps what the next looks depend on.
func (w *Watch) remember(t Tree) {
	switch {
	case len(t.Children) > longList, len(t.Children) > longCrowd && t.Kind == DynamicKind:
		w.listed[t.Path] = time.Now()
	case len(t.Children) > 0:
		delete(w.listed, t.Path)
	}

	if t.InWindow == 0 {
		delete(w.aging, t.Path)
	} else {
		w.aging[t.Path] = true
	}
}

// dynamicAbove returns the path of the Dynamic whose instance is at path, or is above it.
func (s *scope) dynamicAbove(path string) (dynamic string, ok bool) {
	cur := s.own
	rest := strings.TrimPrefix(strings.TrimPrefix(path, s.own.path), "/")

	for rest != "" {
		if n, _ := cur.nodes(); n != nil && n.lists() {
			return cur.path, true
		}
		id, below, _ := strings.Cut(rest, "/")
		next, err := cur.below(id)
		if err != nil {
			return "", false
		}
		cur, rest = next, below
	}

	return "", false
}

// look returns the place at a relative path as it is now, and with deep what is below it.
func (s *scope) look(path string, deep bool) (t Tree, ok bool) {
	if path == "" {
		n, _ := s.own.nodes()
		if n == nil {
			n = s.kids.(node) // the run is over
		}
		return n.tree(deep), true
	}

	cur := s.own
	for {
		id, rest, more := strings.Cut(path, "/")
		if more {
			next, err := cur.below(id)
			if err != nil {
				return t, false
			}
			cur, path = next, rest
			continue
		}

		n, inner := cur.nodes()
		if in := inner[id]; in != nil {
			if n, _ = in.nodes(); n == nil {
				return t, false
			}
			t = n.tree(deep)
			t.ID = id
			return t, true
		}
		if n == nil {
			return t, false
		}

		t, inc, ok := n.place(id)
		if ok && inc != nil {
			t = inc.complete(t, deep)
		}
		return t, ok
	}
}

// Place returns the place at a path relative to this supervisor, without what is below it. "" is
// the supervisor itself. Unlike Tree, it costs the same however large the tree is, and like Tree,
// it never waits.
func (s *scope) Place(path string) (Tree, error) {
	t, ok := s.look(path, false)
	if !ok {
		return t, fmt.Errorf("%s has no child %q: %w", s.own.subject(), path, ErrNotFound)
	}
	return t, nil
}

// Place calls Place of the run.
func (h *handle) Place(path string) (Tree, error) {
	r, err := h.living()
	if err != nil {
		return Tree{}, err
	}
	return r.Place(path)
}
