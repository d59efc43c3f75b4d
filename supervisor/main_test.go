package supervisor_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/supervisor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errCrash = errors.New("crash")

// watch is an observer that tests wait on; nothing here sleeps.
type watch struct {
	mu     sync.Mutex
	cond   *sync.Cond
	events []supervisor.Event
}

func newWatch() *watch { w := &watch{}; w.cond = sync.NewCond(&w.mu); return w }

func (w *watch) Observe(e supervisor.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
	w.cond.Broadcast()
}

// until waits for the n-th event that matches and returns it.
func until[E supervisor.Event](t testing.TB, w *watch, n int, match func(E) bool) E {
	t.Helper()
	deadline := time.AfterFunc(10*time.Second, func() { w.mu.Lock(); defer w.mu.Unlock(); w.cond.Broadcast() })
	defer deadline.Stop()
	limit := time.Now().Add(10 * time.Second)
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		seen := 0
		for _, e := range w.events {
			if x, ok := e.(E); ok && (match == nil || match(x)) {
				if seen++; seen == n {
					return x
				}
			}
		}
		if !time.Now().Before(limit) {
			var zero E
			for _, e := range w.events {
				t.Log(e)
			}
			require.FailNowf(t, "no such event", "%T, number %d", zero, n)
		}
		w.cond.Wait()
	}
}

func count[E supervisor.Event](w *watch, match func(E) bool) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if x, ok := e.(E); ok && (match == nil || match(x)) {
			n++
		}
	}
	return n
}

func at(path string) func(supervisor.ChildStarted) bool {
	return func(e supervisor.ChildStarted) bool { return e.Path == path }
}

// probe is a child that does what it is told: each value sent on exit is what Serve does next.
type probe struct {
	id     string
	starts chan uint64 // incarnations as they begin to serve
	orders chan func(context.Context) error
	fail   func(n int) error // of the n-th start, from 1
	mu     sync.Mutex
	n      int
}

func newProbe(id string) *probe {
	return &probe{id: id, starts: make(chan uint64, 1000), orders: make(chan func(context.Context) error)}
}

func (p *probe) start(ctx context.Context) (supervisor.Service, error) {
	p.mu.Lock()
	p.n++
	n := p.n
	p.mu.Unlock()
	if p.fail != nil {
		if err := p.fail(n); err != nil {
			return nil, err
		}
	}
	return supervisor.ServiceFunc(func(ctx context.Context) error {
		p.starts <- supervisor.Incarnation(ctx)
		select {
		case f := <-p.orders:
			return f(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
	}), nil
}

func (p *probe) began() int { p.mu.Lock(); defer p.mu.Unlock(); return p.n }

func (p *probe) child(r supervisor.Restart) supervisor.Child {
	return supervisor.Child{ID: p.id, Start: p.start, Restart: r}
}

// end makes the current incarnation return err.
func (p *probe) end(err error) { p.orders <- func(context.Context) error { return err } }

func (p *probe) do(f func(context.Context) error) { p.orders <- f }

// tree starts a root and stops it at the end of the test.
func tree(t testing.TB, spec supervisor.Spec) (*supervisor.Run, *watch) {
	t.Helper()
	w := newWatch()
	spec.Observers = append(spec.Observers, w)
	s, err := supervisor.New(spec)
	require.NoError(t, err)
	r, err := s.Start(context.Background())
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Stop(context.Background()) })
	return r, w
}

func many(n int) supervisor.Intensity { return supervisor.Intensity{Max: n, Period: time.Hour} }
