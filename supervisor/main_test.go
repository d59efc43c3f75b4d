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
	"github.com/coppice-go/coppice/supervisor/suptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	ctx      = context.Background()
	errCrash = errors.New("crash")
)

// probe is a child that the test tells what to do.
type probe struct {
	id     string
	starts chan uint64 // incarnations as they begin to serve
	orders chan func(context.Context) error
	before func(n int) error // called in the n-th start, from 1

	mu sync.Mutex
	n  int
}

func newProbe(id string) *probe {
	return &probe{id: id, starts: make(chan uint64, 1000), orders: make(chan func(context.Context) error)}
}

func (p *probe) start(context.Context) (supervisor.Service, error) {
	p.mu.Lock()
	p.n++
	n := p.n
	p.mu.Unlock()

	if p.before != nil {
		if err := p.before(n); err != nil {
			return nil, err
		}
	}

	return supervisor.ServiceFunc(p.serve), nil
}

func (p *probe) serve(ctx context.Context) error {
	select {
	case p.starts <- supervisor.Incarnation(ctx):
	case <-ctx.Done(): // the test has not read the last thousand
		return ctx.Err()
	}
	select {
	case f := <-p.orders:
		return f(ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// began returns how often the start was called.
func (p *probe) began() int { p.mu.Lock(); defer p.mu.Unlock(); return p.n }

func (p *probe) child(r supervisor.Restart) supervisor.Child {
	return supervisor.Child{ID: p.id, Start: p.start, Restart: r}
}

func (p *probe) significant(r supervisor.Restart) supervisor.Child {
	c := p.child(r)
	c.Significant = true
	return c
}

// end makes the current incarnation return err.
func (p *probe) end(err error) { p.orders <- func(context.Context) error { return err } }

// do makes the current incarnation's goroutine run f.
func (p *probe) do(f func(context.Context) error) { p.orders <- f }

func children(c ...supervisor.Child) func(context.Context) ([]supervisor.Child, error) {
	return supervisor.Children(c...)
}

// tree starts a root and stops it at the end of the test.
func tree(t testing.TB, spec supervisor.Spec) (*supervisor.Run, *suptest.Recorder) {
	t.Helper()
	return suptest.Start(t, spec)
}

func until[E supervisor.Event](t testing.TB, w *suptest.Recorder, n int, match func(E) bool) E {
	t.Helper()
	return suptest.Wait(t, w, n, match)
}

func at(path string) func(supervisor.ChildStarted) bool {
	return func(e supervisor.ChildStarted) bool { return e.Path == path }
}

func exitOf(path string) func(supervisor.ChildExited) bool {
	return func(e supervisor.ChildExited) bool { return e.Path == path }
}

func many(n int) supervisor.Intensity { return supervisor.Intensity{Max: n, Period: time.Hour} }

// nested is a child that is a supervisor.
func nested(id string, r supervisor.Restart, spec supervisor.Spec) supervisor.Child {
	return supervisor.Child{ID: id, Restart: r, Start: supervisor.Nested(spec)}
}

// steps returns the history of starts and stops: "+a" and "-a", with "!a" for an end of its own.
func steps(r interface{ Events() []supervisor.Event }) (out []string) {
	for _, e := range r.Events() {
		p := e.Head().Path
		switch e.(type) {
		case supervisor.ChildStarted:
			out = append(out, "+"+p)

		case supervisor.ChildStopped:
			out = append(out, "-"+p)

		case supervisor.ChildExited:
			out = append(out, "!"+p)

		case supervisor.ChildStartFailed:
			out = append(out, "?"+p)

		case supervisor.ChildIgnored:
			out = append(out, "0"+p)
		}
	}
	return out
}

func state(t testing.TB, r interface {
	WhichChild(string) (supervisor.ChildInfo, error)
}, id string) supervisor.State {
	t.Helper()
	info, err := r.WhichChild(id)
	require.NoError(t, err)
	return info.State
}

// hang ignores its context until released.
type hang struct {
	probe
	release chan struct{}
}

func newHang(id string) *hang {
	return &hang{probe: probe{id: id, starts: make(chan uint64, 100)}, release: make(chan struct{})}
}

func (h *hang) child(r supervisor.Restart, p supervisor.OrphanPolicy) supervisor.Child {
	return supervisor.Child{ID: h.id, Restart: r, Orphan: p, Shutdown: time.Second,
		Start: func(context.Context) (supervisor.Service, error) {
			h.mu.Lock()
			h.n++
			h.mu.Unlock()
			return supervisor.ServiceFunc(func(ctx context.Context) error {
				h.starts <- supervisor.Incarnation(ctx)
				<-h.release
				return ctx.Err()
			}), nil
		}}
}

// counted returns the number of events of a type, after all events so far have been delivered.
func counted[E supervisor.Event](t testing.TB, r *supervisor.Run, w *suptest.Recorder) int {
	t.Helper()
	require.NoError(t, r.Flush(ctx))
	return suptest.Count[E](w, nil)
}

// endNow makes the child end and returns when its supervisor has the exit in its mailbox. A
// management call that follows is served after the exit.
func endNow(t testing.TB, r *supervisor.Run, p *probe, err error) {
	t.Helper()
	info, e := r.WhichChild(p.id)
	require.NoError(t, e)
	p.end(err)
	<-supervisor.Monitor(info.Ref)
}
