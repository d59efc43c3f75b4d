// Package suptest is a kit for tests of supervision trees, in real time or, with Run, in virtual
// time:
//
//   - a Recorder of events, which tests wait on instead of sleeping (Wait, After, Settle), and
//     assertions over the history (InOrder, Never, Count, Laws);
//   - kill plans: random ones from a seed (NewPlan), and an exhaustive one, every child at every
//     event (EveryChildAtEveryEvent);
//   - checks that nothing is left behind (NoOrphans, NoLeaks). Run makes both at the end of every
//     test, Start only the first;
//   - a supervised Context for services that are tested alone.
package suptest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coppice-go/coppice/supervisor"
)

// DefaultTimeout bounds every wait of a Recorder without a Timeout in real time. VirtualTimeout
// bounds it in virtual time, which passes at once when nothing else can happen.
const (
	DefaultTimeout = 30 * time.Second
	VirtualTimeout = 30 * 24 * time.Hour
)

// Recorder is an observer that keeps every event. It is safe for concurrent use. It also works
// within a synctest bubble. Its waits are woken by events and by changes of the tree, so a wait of
// any length in virtual time takes no time.
type Recorder struct {
	// Timeout bounds waits; 0 means DefaultTimeout, or VirtualTimeout within a bubble, where
	// Timeout is in the bubble's time.
	Timeout time.Duration

	mu     sync.Mutex
	events []supervisor.Event
	more   chan struct{} // closed at the next event
}

// NewRecorder returns an empty Recorder.
func NewRecorder() *Recorder { return &Recorder{more: make(chan struct{})} }

// Observe keeps the event.
func (r *Recorder) Observe(e supervisor.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	close(r.more)
	r.more = make(chan struct{})
}

// Events returns all events so far.
func (r *Recorder) Events() []supervisor.Event { return r.from(0) }

// from returns the events after the mark.
func (r *Recorder) from(mark int) []supervisor.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]supervisor.Event(nil), r.events[min(mark, len(r.events)):]...)
}

// changed returns a channel that is closed at the next event.
func (r *Recorder) changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.more
}

// Mark returns the number of events so far, for After.
func (r *Recorder) Mark() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.events)
}

// String returns the history, one event per line.
func (r *Recorder) String() string {
	var b strings.Builder
	for _, e := range r.Events() {
		fmt.Fprintf(&b, "%4d %s\n", e.Head().Seq, e)
	}
	return b.String()
}

// limit returns the bound of a wait. The clock of a synctest bubble begins at the year 2000, and no
// other clock is that late.
func (r *Recorder) limit() time.Duration {
	switch {
	case r.Timeout != 0:
		return r.Timeout
	case time.Now().Year() < 2020:
		return VirtualTimeout
	default:
		return DefaultTimeout
	}
}

// until waits until ok reports true. It calls ok at the beginning and whenever the channel that
// changed returned before is closed.
func (r *Recorder) until(t testing.TB, what string, changed func() <-chan struct{}, ok func() bool) {
	t.Helper()
	limit := r.limit()
	timer := time.NewTimer(limit)
	defer timer.Stop()

	for {
		change := changed()
		if ok() {
			return
		}

		select {
		case <-change:
		case <-timer.C:
			t.Fatalf("no %s within %v; the history is:\n%s", what, limit, r)
		}
	}
}

// Wait waits for the n-th event, counted from 1, of type E that match accepts (nil accepts all),
// and returns it. If the event does not come, the test fails and logs the history.
func Wait[E supervisor.Event](t testing.TB, r *Recorder, n int, match func(E) bool) E {
	t.Helper()
	return After(t, r, 0, n, match)
}

// After waits for the n-th event of type E after the mark that match accepts (nil accepts all), and
// returns it. If the event does not come, the test fails and logs the history.
func After[E supervisor.Event](t testing.TB, r *Recorder, mark, n int, match func(E) bool) E {
	t.Helper()
	var found E
	seen, next := 0, mark
	r.until(t, fmt.Sprintf("%T number %d", found, n), r.changed, func() bool {
		events := r.from(next)
		next += len(events)

		for _, e := range events {
			if x, ok := e.(E); ok && (match == nil || match(x)) {
				if seen++; seen == n {
					found = x
					return true
				}
			}
		}

		return false
	})
	return found
}

// Count returns how many events of type E so far match accepts (nil accepts all).
func Count[E supervisor.Event](r *Recorder, match func(E) bool) (n int) {
	for _, e := range r.Events() {
		if x, ok := e.(E); ok && (match == nil || match(x)) {
			n++
		}
	}
	return n
}

// Drawn is what Settle waits for: a *supervisor.Run, Supervisor, Dynamic or Partition.
type Drawn interface {
	Tree() supervisor.Tree
	Changed() <-chan struct{}
}

// Settle waits until the whole tree of a run or a supervisor runs, and no start, stop or restart is
// under way in it.
func (r *Recorder) Settle(t testing.TB, run Drawn) supervisor.Tree {
	t.Helper()
	var tree supervisor.Tree
	r.until(t, "settled tree", run.Changed, func() bool {
		tree = run.Tree()
		return tree.Settled()
	})
	return tree
}

// Start starts a root with a Recorder added to its Observers, and stops it at the end of the test.
// The test fails if the stop leaves an orphan behind, or if the history breaks one of the Laws. A
// test that ends the run itself must look for orphans itself.
func Start(t testing.TB, spec supervisor.Spec) (*supervisor.Run, *Recorder) {
	t.Helper()
	rec := NewRecorder()
	spec.Observers = append(append([]supervisor.Observer(nil), spec.Observers...), rec)
	s, err := supervisor.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	run, err := s.Start(context.Background())
	if err != nil {
		t.Fatalf("start: %v; the history is:\n%s", err, rec)
	}

	_ = run.Flush(context.Background()) // the recorder begins with the whole start in it
	t.Cleanup(func() {
		select {
		case <-run.Done(): // the test has ended it, and looks for orphans itself
		default:
			_ = run.Stop(context.Background())
			NoOrphans(t, run)
		}

		_ = run.Flush(context.Background())
		if Count[supervisor.EventsDropped](rec, nil) == 0 { // a history with gaps cannot be judged
			rec.Lawful(t)
		}
	})

	return run, rec
}

// An incarnation or goroutine that is ending gets so many moments of time, one second in all.
const moment, moments = 5 * time.Millisecond, 200

// NoOrphans fails the test if an incarnation of the tree has not ended in time and still runs. It
// reports which, with its stack. An incarnation that was not waited for at all (supervisor.Brutal)
// gets up to a second.
func NoOrphans(t testing.TB, run interface {
	Orphans() []supervisor.Orphan
	Changed() <-chan struct{}
}) {
	t.Helper()
	timer := time.NewTimer(moment * moments)
	defer timer.Stop()

	for wait := true; ; {
		change := run.Changed()
		orphans := run.Orphans()
		if wait && len(orphans) > 0 && orphans[0].Brutal {
			select {
			case <-change:
			case <-timer.C:
				wait = false
			}
			continue
		}

		for _, o := range orphans {
			t.Errorf("orphan: %s, incarnation %d, %d goroutines\n%s", o.Path, o.Incarnation, o.Goroutines, o.Stack)
		}
		return
	}
}

// NoLeaks fails the test if a goroutine of the tree still runs, even one that a child started with
// a plain go statement. It leaves orphans to NoOrphans. It also finds goroutines that a child
// started and shares with the rest of the process, for instance those of a client's idle
// connections. It does not find goroutines that a Lease started. The end of a plain goroutine wakes
// nobody, so NoLeaks looks again from time to time, for one second.
func NoLeaks(t testing.TB, run interface {
	Goroutines() (int, string)
	Orphans() []supervisor.Orphan
}) {
	t.Helper()
	for i := 0; ; i++ {
		n, stacks := run.Goroutines()
		if n == 0 || len(run.Orphans()) > 0 {
			return
		}

		if i == moments {
			t.Errorf("%d goroutines of the tree are left\n%s", n, stacks)
			return
		}

		<-time.After(moment)
	}
}

// Context returns the context of a supervised child named id, for a service or an engine that is
// tested without a tree: Go, Ready, Faults, Path and Incarnation work with it. It is cancelled at
// the end of the test. The test fails if a function that was started with Go failed.
func Context(t testing.TB, id string) context.Context {
	t.Helper()
	got := make(chan context.Context, 1)
	run, _ := Start(t, supervisor.Spec{Name: "suptest", Intensity: supervisor.Intensity{Period: time.Hour},
		Build: supervisor.Children(supervisor.Child{
			ID: id, Restart: supervisor.Permanent, Start: supervisor.Start(func(ctx context.Context) error {
				got <- ctx
				<-ctx.Done()
				return ctx.Err()
			}),
		})})

	t.Cleanup(func() {
		select {
		case <-run.Done():
			t.Errorf("supervised test context: %v", run.Err())
		default:
		}
	})
	return <-got
}
