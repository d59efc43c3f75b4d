package suptest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/coppice-go/coppice/supervisor"
)

// Laws checks the whole history of a root, as a Recorder keeps it, against the laws that hold for
// every tree, whatever its children do:
//
//   - events are numbered without gaps;
//   - an incarnation starts once, is acknowledged at most once, and ends once: by itself, stopped,
//     failed or ignored;
//   - a child's next incarnation starts after the previous one ended (or was declared an orphan);
//   - no attempt goes beyond the limit: the supervisor gives up instead (OTP rule 39);
//   - a group is started in its order (OTP rules 49, 50);
//   - a supervisor that gives up or shuts down starts no child any more (OTP rules 45, 68);
//   - before a supervisor has stopped, it has stopped all its children (OTP rule 62).
//
// Instances of a dynamic supervisor that is not Verbose have few events; Laws checks those. The
// error has a line for each violation.
func Laws(events []supervisor.Event) error {
	b := book{open: map[string]uint64{}, acked: map[string]bool{}, limit: map[string]int{}, ending: map[string]bool{},
		group: map[string][]string{}, delayed: map[string]bool{}}
	for i, e := range events {
		b.enter(i, e)
	}
	return errors.Join(b.broken...)
}

// book is the state that a history has led to, by path.
type book struct {
	seq     uint64
	open    map[string]uint64 // incarnations that have started and not yet ended
	acked   map[string]bool
	limit   map[string]int // of supervisors; absent if it is not known
	ending  map[string]bool
	group   map[string][]string // paths that a supervisor starts next, in order
	delayed map[string]bool     // whether the restart of the group is delayed
	broken  []error
}

func (b *book) law(e supervisor.Event, format string, a ...any) {
	b.broken = append(b.broken, fmt.Errorf("event %d, %s: %s", e.Head().Seq, e, fmt.Sprintf(format, a...)))
}

func (b *book) enter(i int, e supervisor.Event) {
	h := e.Head()
	path, above := h.Path, parent(h.Path)

	if _, lost := e.(supervisor.EventsDropped); lost {
		b.law(e, "the history has gaps")
		return
	}

	if i == 0 && h.Seq != 1 {
		b.law(e, "the history does not begin with the beginning")
	} else if i > 0 && h.Seq != b.seq+1 {
		b.law(e, "the event before it was number %d", b.seq)
	}

	b.seq = h.Seq

	switch e := e.(type) {
	case supervisor.SupervisorStarted:
		b.limit[path] = e.Intensity.Max

	case supervisor.Reloaded:
		delete(b.limit, path)

	case supervisor.ChildStarting:
		b.starting(e, path, above)

	case supervisor.ChildStarted:
		b.known(e, "acknowledged")
		if b.acked[path] {
			b.law(e, "it is acknowledged twice")
		}
		b.acked[path] = true

	case supervisor.ChildStartFailed:
		b.end(e, false)
		delete(b.group, above)

	case supervisor.ChildIgnored:
		b.end(e, false)

	case supervisor.ChildExited:
		b.end(e, true)

	case supervisor.ChildStopped:
		b.end(e, true)

	case supervisor.RestartScheduled:
		if limit, ok := b.limit[above]; ok && e.InWindow > limit {
			b.law(e, "the limit of %q is %d", above, limit)
		}
		b.delayed[above] = e.Delay > 0

	case supervisor.GroupRestart:
		delete(b.group, path)
		if !b.delayed[path] {
			for _, id := range e.IDs {
				b.group[path] = append(b.group[path], join(path, id))
			}
		}

	case supervisor.GaveUp:
		b.ends(path)

	case supervisor.AutoShutdownTriggered:
		b.ends(path)

	case supervisor.SupervisorStopped:
		b.stopped(e, path)
	}
}

func (b *book) starting(e supervisor.ChildStarting, path, above string) {
	if id, is := b.open[path]; is {
		b.law(e, "incarnation %d has not ended", id)
	}
	if b.ending[above] {
		b.law(e, "its supervisor has given up or shuts down")
	}

	if next := b.group[above]; len(next) > 0 {
		if next[0] != path {
			b.law(e, "next of its group is %s", next[0])
		}
		b.group[above] = slices.DeleteFunc(next, func(p string) bool { return p == path })
	}

	b.open[path] = e.Incarnation
	delete(b.acked, path)
}

// known reports whether e's child has started and not yet ended in this history. If the start was
// that of another incarnation, known notes a violation. what names what happened to the child.
func (b *book) known(e supervisor.Event, what string) bool {
	h := e.Head()
	id, is := b.open[h.Path]
	if is && id != h.Incarnation {
		b.law(e, "%s is incarnation %d, started was %d", what, h.Incarnation, id)
	}
	return is
}

func (b *book) end(e supervisor.Event, acked bool) {
	path := e.Head().Path
	if b.known(e, "ended") && b.acked[path] != acked {
		b.law(e, "acknowledged: %v", b.acked[path])
	}
	delete(b.open, path)
	delete(b.acked, path)
}

func (b *book) ends(path string) {
	b.ending[path] = true
	delete(b.group, path)
}

func (b *book) stopped(e supervisor.SupervisorStopped, path string) {
	for child, id := range b.open {
		if child != path && parent(child) == path {
			b.law(e, "%s, incarnation %d, has not ended", child, id)
			delete(b.open, child)
		}
	}

	delete(b.ending, path)
	delete(b.group, path)
	delete(b.limit, path)
}

func parent(path string) string {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i]
	}
	return ""
}

func join(path, id string) string {
	if path == "" {
		return id
	}
	return path + "/" + id
}

// Match reports whether an event is one that the test looks for.
type Match func(supervisor.Event) bool

// Is returns a Match that accepts an event of type E at this path if every function in more accepts
// it.
func Is[E supervisor.Event](path string, more ...func(E) bool) Match {
	return func(e supervisor.Event) bool {
		x, ok := e.(E)
		if !ok || e.Head().Path != path {
			return false
		}

		for _, accepts := range more {
			if !accepts(x) {
				return false
			}
		}

		return true
	}
}

// InOrder fails the test unless the history so far has an event for each match, in the order of the
// matches. Other events may lie between. A test must first wait for the last of them to come.
func InOrder(t testing.TB, r *Recorder, matches ...Match) {
	t.Helper()
	next := 0

	for _, e := range r.Events() {
		if next < len(matches) && matches[next](e) {
			next++
		}
	}

	if next < len(matches) {
		t.Fatalf("only the first %d of %d events come in this order; the history is:\n%s", next, len(matches), r)
	}
}

// Never fails the test if the history so far has an event of type E that match accepts (nil accepts
// all).
func Never[E supervisor.Event](t testing.TB, r *Recorder, match func(E) bool) {
	t.Helper()
	for _, e := range r.Events() {
		if x, ok := e.(E); ok && (match == nil || match(x)) {
			t.Fatalf("there is a %T: %s; the history is:\n%s", x, x, r)
		}
	}
}

// Lawful fails the test if the history so far breaks one of the Laws.
func (r *Recorder) Lawful(t testing.TB) {
	t.Helper()
	if err := Laws(r.Events()); err != nil {
		t.Errorf("%v\nthe history is:\n%s", err, r)
	}
}
