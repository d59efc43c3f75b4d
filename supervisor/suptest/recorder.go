// Package suptest is a kit for tests of supervision trees, under the real time or, with Run, a
// virtual one:
//
//   - a Recorder of events, which tests wait on instead of sleeping (Wait, After, Settle), and
//     assertions over the history (InOrder, Never, Count, Laws);
//   - kill plans: at random from a seed (NewPlan), and exhaustive, every child at every event
//     (EveryChildAtEveryEvent);
//   - checks that nothing is left behind (NoOrphans, NoLeaks), which Run makes at the end of every
//     test, and Start the first of them;
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

// DefaultTimeout bounds every wait of a Recorder that sets none.
const DefaultTimeout = 30 * time.Second

// pollEvery is how often a wait looks again without a new event.
const pollEvery = 2 * time.Millisecond

// Recorder is an observer that keeps every event. Safe for concurrent use; it also works within a
// synctest bubble, where Timeout is of the bubble's time.
type Recorder struct {
	// Timeout bounds waits; 0 is DefaultTimeout.
	Timeout time.Duration

	mu     sync.Mutex
	events []supervisor.Event
	more   chan struct{} // closed at the next event
}

// NewRecorder makes a Recorder.
func NewRecorder() *Recorder { return &Recorder{more: make(chan struct{})} }

// Observe keeps the event.
func (r *Recorder) Observe(e supervisor.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	close(r.more)
	r.more = make(chan struct{})
}

// Events are all events so far.
func (r *Recorder) Events() []supervisor.Event {
	events, _ := r.snapshot(0)
	return events
}

func (r *Recorder) snapshot(from int) ([]supervisor.Event, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]supervisor.Event(nil), r.events[from:]...), r.more
}

// Mark is the number of events so far, for After.
func (r *Recorder) Mark() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.events)
}

// String is the history, one event a line.
func (r *Recorder) String() string {
	var b strings.Builder
	for _, e := range r.Events() {
		fmt.Fprintf(&b, "%4d %s\n", e.Head().Seq, e)
	}
	return b.String()
}

// until waits until ok, called at the begin and after every event, says so.
func (r *Recorder) until(t testing.TB, what string, ok func(events []supervisor.Event) bool) {
	t.Helper()
	limit := r.Timeout
	if limit == 0 {
		limit = DefaultTimeout
	}

	timer := time.NewTimer(limit)
	defer timer.Stop()

	again := time.NewTicker(pollEvery) // a snapshot may change a moment after the last event
	defer again.Stop()

	for {
		events, more := r.snapshot(0)
		if ok(events) {
			return
		}

		select {
		case <-more:
		case <-again.C:
		case <-timer.C:
			t.Fatalf("no %s within %v; the history is:\n%s", what, limit, r)
		}
	}
}

// Wait waits for the n-th event, from 1, of type E that match accepts (nil accepts all), and
// returns it. It fails the test, with the history, when that does not come.
func Wait[E supervisor.Event](t testing.TB, r *Recorder, n int, match func(E) bool) E {
	t.Helper()
	return After(t, r, 0, n, match)
}

// After is Wait for events after a mark.
func After[E supervisor.Event](t testing.TB, r *Recorder, mark, n int, match func(E) bool) E {
	t.Helper()
	var found E
	r.until(t, fmt.Sprintf("%T number %d", found, n), func(events []supervisor.Event) bool {
		seen := 0
		for _, e := range events[min(mark, len(events)):] {
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

// Count is how many events of type E so far match accepts (nil accepts all).
func Count[E supervisor.Event](r *Recorder, match func(E) bool) (n int) {
	for _, e := range r.Events() {
		if x, ok := e.(E); ok && (match == nil || match(x)) {
			n++
		}
	}
	return n
}

// Settle waits until the whole tree runs and nothing in it is on its way.
func (r *Recorder) Settle(t testing.TB, run Treer) supervisor.Tree {
	t.Helper()
	var tree supervisor.Tree
	r.until(t, "settled tree", func([]supervisor.Event) bool {
		tree = run.Tree()
		return tree.Settled()
	})
	return tree
}

// Treer is what has a Tree: a run, a supervisor.
type Treer interface{ Tree() supervisor.Tree }

// Start starts a root with a Recorder added to its Observers; it is stopped at the end of the test.
// The test fails when the stop leaves an orphan behind, or when the history breaks one of the Laws.
// A test that ends the run itself looks for orphans itself.
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
		case <-run.Done(): // the test has ended it, and looked itself
		default:
			_ = run.Stop(context.Background())
			NoOrphans(t, run)
		}

		_ = run.Flush(context.Background())
		if Count[supervisor.EventsDropped](rec, nil) == 0 { // of a history with gaps nothing is known
			rec.Lawful(t)
		}
	})

	return run, rec
}

// What is on its way out gets a moment, a second in all.
const moment, moments = 5 * time.Millisecond, 200

// NoOrphans fails the test when an incarnation of the tree has not ended in time and still runs; it
// says which, and where it is. Those that were not waited for at all (supervisor.Brutal) get a
// moment.
func NoOrphans(t testing.TB, run interface{ Orphans() []supervisor.Orphan }) {
	t.Helper()
	orphans := run.Orphans()
	for i := 0; i < moments && len(orphans) > 0 && orphans[0].Brutal; i++ {
		<-time.After(moment)
		orphans = run.Orphans()
	}

	for _, o := range orphans {
		t.Errorf("orphan: %s, incarnation %d, %d goroutines\n%s", o.Path, o.Incarnation, o.Goroutines, o.Stack)
	}
}

// NoLeaks fails the test when a goroutine of the tree still runs, also one that a child started
// with a plain go statement. Orphans are left to NoOrphans. What a child shares with the rest of
// the process, the idle connections of a client for instance, is found too if it was the child that
// began it; what a Lease opened is not.
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

// Context is the context of a supervised child named id, for a service or an engine that is tested
// without a tree: Go, Ready, Faults, Path and Incarnation work with it. It is cancelled at the end
// of the test, which fails if something that was started with Go did.
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
