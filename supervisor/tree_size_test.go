package supervisor_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// 10,000 children of one supervisor are started, restarted because of the last (all of them under
// OneForAll, that one alone under OneForOne), and stopped.
func TestHugeTree(t *testing.T) {
	const n = 10_000
	var list []supervisor.Child
	for i := range n {
		list = append(list, supervisor.Child{ID: fmt.Sprint(i), Start: idle})
	}

	for _, strategy := range []supervisor.Strategy{supervisor.OneForAll, supervisor.OneForOne} {
		// Without a recorder, which would be too slow for so many events at once and lose some.
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

// In a tree of 100 levels, a kill at the bottom is handed to the top, level by level, and the whole
// tree comes back.
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
