package supervisor_test

import (
	"context"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
)

// The zero Supervisor has no children. Types that cannot be used as zero values return an error.
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

// Numbers at the limits of their types are handled.
func TestExtremeDurations(t *testing.T) {
	require.Empty(t, supervisor.Lint(
		supervisor.Spec{Intensity: supervisor.Intensity{Max: math.MaxInt, Period: math.MaxInt64}},
		[]supervisor.Child{{ID: "a", Start: idle}}))

	warned := supervisor.Lint(supervisor.Spec{Strategy: supervisor.OneForAll,
		Intensity: supervisor.Intensity{Max: 1 << 40, Period: time.Hour}}, []supervisor.Child{
		{ID: "a", Start: idle, Shutdown: time.Hour, Backoff: supervisor.Backoff{Min: time.Hour}},
	})
	require.Len(t, warned, 2, "%q", warned)

	require.Empty(t, supervisor.Lint(supervisor.Spec{
		Intensity: supervisor.Intensity{Max: supervisor.Unlimited, Period: time.Minute}}, []supervisor.Child{
		{ID: "a", Start: idle, Backoff: supervisor.Backoff{Min: time.Minute}}}), "it is meant")
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

// Any text without a slash is an ID, by which its child and the child's goroutines are found.
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
