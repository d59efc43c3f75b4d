package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// What people do to a library without meaning it.

// holed is an error that must not be used when it is nil: as a typed nil, which is not nil, it
// panics in whoever looks into it.
type holed struct{ err error }

func (h *holed) Error() string { return h.err.Error() }
func (h *holed) Unwrap() error { return h.err }

// mean panics when it is compared.
type mean struct{}

func (mean) Error() string { panic("Error") }
func (mean) Is(error) bool { panic("Is") }

// An error that panics when it is looked at is the child's fault and the child's end, and nobody
// else's.
func TestErrorsThatPanic(t *testing.T) {
	for _, bad := range []error{(*holed)(nil), mean{}, fmt.Errorf("wrapped: %w", mean{})} {
		p := newProbe("p")
		r, w := tree(t, supervisor.Spec{Intensity: many(9), Build: children(p.child(supervisor.Transient))})
		<-p.starts
		p.end(bad)
		e := until(t, w, 1, exitOf("p")).Exit
		require.Equal(t, supervisor.Abnormal, e.Class)
		var panicked *supervisor.PanicError
		require.ErrorAs(t, e.Err, &panicked)
		require.NotEmpty(t, e.String())
		<-p.starts // restarted

		// In a start, by a descendant, as the reason of a kill, and while it is stopped.
		_, err := r.StartChild(ctx, supervisor.Child{ID: "x", Start: func(context.Context) (supervisor.Service, error) {
			return nil, bad
		}})
		require.ErrorAs(t, err, &panicked)
		p.do(func(ctx context.Context) error {
			return supervisor.Go(ctx, func(context.Context) error { return bad })
		})
		<-p.starts
		require.NoError(t, r.Kill("p", bad))
		<-p.starts
		p.do(func(ctx context.Context) error { <-ctx.Done(); return bad })
		require.NoError(t, r.TerminateChild(ctx, "p"))
		_, err = r.RestartChild(ctx, "p")
		require.NoError(t, err)
		require.NoError(t, r.Stop(ctx))
	}

	c, cancel := context.WithCancelCause(ctx)
	s, err := supervisor.New(supervisor.Spec{Build: children(supervisor.Child{ID: "a", Start: idle})})
	require.NoError(t, err)
	r, err := s.Start(c)
	require.NoError(t, err)
	cancel(mean{}) // as the parent's reason
	require.Error(t, r.Wait())
	s, err = supervisor.New(supervisor.Spec{Build: func(context.Context) ([]supervisor.Child, error) {
		return nil, mean{}
	}})
	require.NoError(t, err)
	require.Error(t, s.Serve(ctx))
}

// The zero Supervisor is one without children; what cannot be zero says so.
func TestZeroValues(t *testing.T) {
	var s supervisor.Supervisor
	require.Equal(t, supervisor.NotRunning, s.Tree().State)
	require.Empty(t, s.String())
	r, err := s.Start(ctx)
	require.NoError(t, err)
	_, err = r.StartChild(ctx, supervisor.Child{ID: "a", Start: idle})
	require.NoError(t, err)
	require.Equal(t, supervisor.Intensity{Max: 1, Period: 5 * time.Second}, r.Tree().Intensity)
	require.NoError(t, s.Stop(ctx))

	var d supervisor.Dynamic[int]
	require.ErrorIs(t, d.Serve(ctx), supervisor.ErrSpec)
	_, err = d.StartChild(ctx, "", 1)
	require.ErrorIs(t, err, supervisor.ErrNotRunning)
	require.Empty(t, d.String())
	require.Equal(t, supervisor.DynamicKind, d.Tree().Kind)

	run, w := tree(t, supervisor.Spec{Intensity: many(9)})

	for id, start := range map[string]supervisor.StartFunc{
		"nil function": supervisor.Start(nil), "nil supervisor": func(context.Context) (supervisor.Service, error) {
			return (*supervisor.Supervisor)(nil), nil
		},
		"zero dynamic": func(context.Context) (supervisor.Service, error) { return &supervisor.Dynamic[int]{}, nil },
		"nil service":  func(context.Context) (supervisor.Service, error) { return nil, nil },
	} {
		_, err := run.StartChild(ctx, supervisor.Child{ID: id, Restart: supervisor.Temporary, Start: start})
		if id == "nil function" { // its start is acknowledged before it runs
			require.NoError(t, err)
			until(t, w, 1, func(e supervisor.ChildExited) bool { return e.Exit.Panic != nil })
			continue
		}
		require.Error(t, err, id)
	}

	w.Settle(t, run)
	counts, err := run.CountChildren()
	require.NoError(t, err)
	require.Zero(t, counts.Specs)
}

// Figures at the edge of what can be counted.
func TestExtremeDurations(t *testing.T) {
	require.Empty(t, supervisor.Lint(
		supervisor.Spec{Intensity: supervisor.Intensity{Max: math.MaxInt, Period: math.MaxInt64}},
		[]supervisor.Child{{ID: "a", Start: idle}}))

	warned := supervisor.Lint(supervisor.Spec{Strategy: supervisor.OneForAll,
		Intensity: supervisor.Intensity{Max: 1 << 40, Period: time.Hour}}, []supervisor.Child{
		{ID: "a", Start: idle, Shutdown: time.Hour, Backoff: supervisor.Backoff{Min: time.Hour}},
	})
	require.Len(t, warned, 2, "%q", warned)
	synctest.Test(t, func(t *testing.T) {
		p := newProbe("p")
		c := p.child(0)
		c.Backoff = supervisor.Backoff{Min: math.MaxInt64, Factor: math.MaxFloat64, Jitter: 1}
		r, w := tree(t, supervisor.Spec{Intensity: many(3), Build: children(c)})
		p.end(errCrash)
		require.Positive(t, until[supervisor.RestartScheduled](t, w, 1, nil).Delay)
		synctest.Wait()
		require.Equal(t, supervisor.Restarting, state(t, r, "p"))
	})

	for _, bad := range []supervisor.Child{{Shutdown: -2}, {StartTimeout: -1}, {Backoff: supervisor.Backoff{Min: -1}},
		{Backoff: supervisor.Backoff{Min: 1, Factor: math.NaN()}},
		{Backoff: supervisor.Backoff{Min: 1, Jitter: math.NaN()}},
		{Backoff: supervisor.Backoff{Min: 1, Jitter: math.Inf(1)}}, {Shutdown: math.MinInt64}, {Kind: 77}, {ID: "a/b"},
		{ID: "/"}} {
		if bad.ID == "" {
			bad.ID = "p"
		}
		bad.Start = idle
		require.ErrorIs(t, supervisor.CheckChildren([]supervisor.Child{bad}), supervisor.ErrSpec, "%+v", bad)
	}
}

// Any text without a slash is an ID, and finds its child, its goroutines included.
func TestStrangeIDs(t *testing.T) {
	ids := []string{" ", "*", ".", "..", "\n\n# labels: {", `", "supervisor.incarnation":"1`, "\x00", "日本語",
		strings.Repeat("x", 10_000), "%s%d", "~", "#1"}
	synctest.Test(t, func(t *testing.T) {
		var list []supervisor.Child
		release := make(chan struct{})

		for _, id := range ids {
			list = append(list, supervisor.Child{ID: id, Shutdown: time.Second, Orphan: supervisor.Abandon,
				Start: supervisor.Start(func(context.Context) error {
					<-release
					return nil
				})})
		}

		r, _ := tree(t, supervisor.Spec{Build: children(list...)})
		for _, id := range ids {
			require.ErrorIs(t, r.TerminateChild(ctx, id), supervisor.ErrOrphan)
		}

		orphans := r.Orphans()
		require.Len(t, orphans, len(ids))

		for i, o := range orphans {
			require.Equal(t, ids[i], o.Path)
			require.Equal(t, 1, o.Goroutines, "%q", o.Path)
		}

		require.NotEmpty(t, r.Tree().String())
		close(release)
		synctest.Wait()
	})
}

// 10,000 children of one supervisor: started, all of them restarted because of the last, one of
// them because of itself, and stopped.
func TestHugeTree(t *testing.T) {
	const n = 10_000
	var list []supervisor.Child
	for i := range n {
		list = append(list, supervisor.Child{ID: fmt.Sprint(i), Start: idle})
	}

	for _, strategy := range []supervisor.Strategy{supervisor.OneForAll, supervisor.OneForOne} {
		// Without a recorder: it would be too slow for so many events at once, and is told so.
		s, err := supervisor.New(supervisor.Spec{Strategy: strategy, Intensity: many(9), Build: children(list...)})
		require.NoError(t, err)
		r, err := s.Start(ctx)
		require.NoError(t, err)
		last, err := r.WhichChild(fmt.Sprint(n - 1))
		require.NoError(t, err)
		require.NoError(t, r.Kill(last.ID, nil))
		<-supervisor.Monitor(last.Ref)
		_, err = r.StartChild(ctx, supervisor.Child{ID: "behind it", Start: idle})
		require.NoError(t, err)
		counts, err := r.CountChildren()
		require.NoError(t, err)
		require.Equal(t, supervisor.Counts{Specs: n + 1, Active: n + 1, Workers: n + 1}, counts)
		require.NoError(t, r.Stop(ctx))
		suptest.NoLeaks(t, r)
	}
}

// 100 levels: a kill at the bottom is handed to the top, level by level, and the whole tree is
// back.
func TestDeepTree(t *testing.T) {
	const levels = 100
	p := newProbe("p")
	spec := supervisor.Spec{Intensity: supervisor.Intensity{Period: time.Hour}, Build: children(p.child(0))}
	path := "p"

	for range levels {
		spec = supervisor.Spec{Intensity: spec.Intensity, Build: children(nested("s", 0, spec))}
		path = "s/" + path
	}

	spec.Intensity = many(1)
	r, w := tree(t, spec)
	first := <-p.starts
	require.NoError(t, r.Kill(path, nil))
	require.Less(t, first, <-p.starts)
	whole := w.Settle(t, r)
	n, ok := whole.Find(path)
	require.True(t, ok)
	require.Equal(t, path, n.Path)
	require.Equal(t, levels, suptest.Count[supervisor.GaveUp](w, nil))
	e := until(t, w, 1, exitOf("s"))
	require.ErrorIs(t, e.Exit.Err, supervisor.ErrKilled, "the reason comes up all the way")
	p.end(errCrash)
	require.ErrorIs(t, r.Wait(), errCrash)
	var g *supervisor.GiveUpError
	require.ErrorAs(t, r.Err(), &g)
	require.True(t, errors.Is(g, supervisor.ErrMaxIntensity))
}
