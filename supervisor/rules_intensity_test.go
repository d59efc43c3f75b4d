package supervisor_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
)

// The window is exact: an attempt counts up to and including the period, and not a nanosecond
// longer.
func TestRule39_Rule41_WindowBoundary(t *testing.T) {
	for _, c := range []struct {
		gap     time.Duration
		survive bool
	}{{time.Second - 1, false}, {time.Second, false}, {time.Second + 1, true}} {
		synctest.Test(t, func(t *testing.T) {
			p := newProbe("p")
			r, _ := tree(t, supervisor.Spec{Intensity: supervisor.Intensity{Max: 1, Period: time.Second},
				Build: children(p.child(0))})
			<-p.starts
			p.end(errCrash)
			<-p.starts
			timer := time.NewTimer(c.gap)
			<-timer.C
			p.end(errCrash)

			if c.survive {
				<-p.starts
				return
			}

			require.ErrorIs(t, r.Wait(), supervisor.ErrMaxIntensity)
		})
	}
}

// multiple_restarts: spaced wider than the period they never trip the limit
func TestRule39_SpacedRestartsNeverTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe("p")
		r, _ := tree(t, supervisor.Spec{Intensity: supervisor.Intensity{Max: 2, Period: time.Second},
			Build: children(p.child(0))})

		for range 100 {
			<-p.starts
			timer := time.NewTimer(501 * time.Millisecond)
			<-timer.C
			p.end(errCrash)
		}

		<-p.starts
		require.Equal(t, 2, r.Tree().InWindow)
		require.EqualValues(t, 100, mustFind(t, r, "p").Restarts)
	})
}

func mustFind(t *testing.T, r interface{ Tree() supervisor.Tree }, path string) supervisor.Tree {
	t.Helper()
	n, ok := r.Tree().Find(path)
	require.True(t, ok, path)
	return n
}

// one_for_one: two allowed, the third gives up (E 4)
func TestRule40_Rule45_GiveUp(t *testing.T) {
	for _, limit := range []int{0, 1, 2, 5} {
		p, sibling := newProbe("p"), newProbe("sibling")
		r, w := tree(t, supervisor.Spec{Name: "root", Intensity: many(limit),
			Build: children(sibling.child(0), p.child(0))})

		for range limit + 1 {
			<-p.starts
			p.end(errCrash)
		}

		err := r.Wait()
		require.ErrorIs(t, err, supervisor.ErrMaxIntensity)
		require.ErrorIs(t, err, supervisor.ErrShutdown)
		require.ErrorIs(t, err, errCrash)
		var e *supervisor.GiveUpError
		require.ErrorAs(t, err, &e)
		require.Equal(t, "p", e.Offender)
		require.Equal(t, limit+1, e.Attempts)
		require.Contains(t, err.Error(), "last was p: crash")
		require.Equal(t, limit+1, p.began())
		require.Equal(t, err, until[supervisor.GaveUp](t, w, 1, nil).Err)
		all := steps(r)
		require.Equal(t, []string{"!p", "-sibling"}, all[len(all)-2:])
	}
}

// E 3, 3b: three deaths at the same time are one group restart, but three restarts under
// one_for_one.
func TestRule42_SimultaneousDeaths(t *testing.T) {
	for strategy, survive := range map[supervisor.Strategy]bool{supervisor.OneForAll: true,
		supervisor.OneForOne: false} {
		a, b, c := newProbe("a"), newProbe("b"), newProbe("c")
		d := newProbe("d")
		r, _ := tree(t, supervisor.Spec{Strategy: strategy, Intensity: many(1),
			Build: children(a.child(0), b.child(0), c.child(0))})
		var refs []supervisor.Ref

		for _, id := range []string{"a", "b", "c"} {
			info, err := r.WhichChild(id)
			require.NoError(t, err)
			refs = append(refs, info.Ref)
		}

		// The supervisor is busy with the start of d while the three end.
		d.before = func(n int) error {
			if n > 1 {
				return nil
			}

			for i, p := range []*probe{a, b, c} {
				<-p.starts
				p.end(errCrash)
				<-supervisor.Monitor(refs[i])
			}

			return nil
		}
		_, err := r.StartChild(ctx, d.child(0))

		if survive {
			require.NoError(t, err)
			for _, p := range []*probe{a, b, c} {
				<-p.starts
			}
			require.Equal(t, 1, r.Tree().InWindow)
			require.NoError(t, r.Stop(ctx))
			continue
		}

		require.ErrorIs(t, r.Wait(), supervisor.ErrMaxIntensity)
	}
}

// one_for_one_escalation, E 5: intensity 3 gives exactly 3 failed starts, then the end
func TestRule43_FailedStartsCount(t *testing.T) {
	p, sibling := newProbe("p"), newProbe("sibling")
	p.before = func(n int) error {
		if n > 1 {
			return errCrash
		}
		return nil
	}
	r, w := tree(t, supervisor.Spec{Intensity: many(3), Build: children(p.child(0), sibling.child(0))})
	<-p.starts
	p.end(errCrash)
	require.ErrorIs(t, r.Wait(), supervisor.ErrMaxIntensity)
	require.Equal(t, 4, p.began())
	until(t, w, 3, func(e supervisor.ChildStartFailed) bool { return e.Path == "p" })
	require.Equal(t, 1, sibling.began())
	attempt := until(t, w, 3, func(e supervisor.RestartScheduled) bool { return e.Path == "p" })
	require.Equal(t, 3, attempt.Attempt)
	require.Equal(t, 3, attempt.InWindow)
}

// E 8: a give-up is a shutdown, so a transient supervisor is not restarted; a permanent one is, and
// counts above.
func TestRule46_GiveUpUnderAParent(t *testing.T) {
	for restart, again := range map[supervisor.Restart]bool{supervisor.Permanent: true, supervisor.Transient: false} {
		p := newProbe("p")
		r, w := tree(t, supervisor.Spec{
			Build: children(nested("sub", restart, supervisor.Spec{Intensity: supervisor.Intensity{Period: time.Second},
				Build: children(p.child(0))}))})
		<-p.starts
		p.end(errCrash)
		e := until(t, w, 1, exitOf("sub")).Exit
		require.Equal(t, supervisor.Shutdown, e.Class)
		require.ErrorIs(t, e.Err, supervisor.ErrMaxIntensity)

		if again {
			<-p.starts
			require.Equal(t, 1, r.Tree().InWindow)
			p.end(errCrash)
			var g *supervisor.GiveUpError
			require.ErrorAs(t, r.Wait(), &g)
			require.Equal(t, "sub", g.Offender)
			require.Contains(t, g.Error(), "sub/p")
		} else {
			require.Equal(t, supervisor.NotRunning, state(t, r, "sub"))
			require.Zero(t, r.Tree().InWindow)
		}
	}
}

// An incarnation that has lived as long as the longest delay still belongs to the row. One that has
// lived longer begins a new row.
func TestRule55_BackoffRowBoundary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe("p")
		c := p.child(0)
		c.Backoff = supervisor.Backoff{Min: time.Second, Max: 4 * time.Second}
		_, w := tree(t, supervisor.Spec{Intensity: many(100), Build: children(c)})
		<-p.starts

		for i, life := range []time.Duration{0, 4 * time.Second, 4*time.Second + 1} {
			<-time.After(life)
			p.end(errCrash)
			<-p.starts
			e := until[supervisor.RestartScheduled](t, w, i+1, nil)
			require.Equal(t, []int{1, 2, 1}[i], e.Attempt)
		}

		q := newProbe("q") // the same of an instance
		d, _, w := dynamic(t, supervisor.DynamicSpec[*probe]{Intensity: many(100), Backoff: c.Backoff})
		_, err := d.StartChild(ctx, "q", q)
		require.NoError(t, err)
		<-q.starts

		for i, life := range []time.Duration{0, 4 * time.Second, 4*time.Second + 1} {
			<-time.After(life)
			q.end(errCrash)
			<-q.starts
			e := until[supervisor.RestartScheduled](t, w, i+1, nil)
			require.Equal(t, []int{1, 2, 1}[i], e.Attempt)
		}
	})
}

func TestRule55_Backoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe("p")
		c := p.child(0)
		c.Backoff = supervisor.Backoff{Min: time.Second, Max: 3 * time.Second}
		after := newProbe("after")
		r, w := tree(t, supervisor.Spec{Strategy: supervisor.RestForOne, Intensity: many(100),
			Build: children(c, after.child(0))})
		<-p.starts
		<-after.starts

		for _, want := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second} {
			begin := time.Now()
			p.end(errCrash)
			synctest.Wait()
			require.Equal(t, supervisor.Restarting, state(t, r, "p"))
			require.Equal(t, supervisor.NotRunning, state(t, r, "after")) // the group does not run without it
			require.ErrorIs(t, r.Kill("p", nil), supervisor.ErrRestarting)
			<-p.starts
			<-after.starts
			require.Equal(t, want, time.Since(begin))
		}

		// A long life begins a new row.
		timer := time.NewTimer(time.Minute)
		<-timer.C
		p.end(errCrash)
		<-p.starts
		e := until(t, w, 5, func(e supervisor.RestartScheduled) bool { return e.Path == "p" })
		require.Equal(t, 1, e.Attempt)
		require.Equal(t, time.Second, e.Delay)

		// A stop and a terminate do not wait for a delay.
		p.end(errCrash)
		synctest.Wait()
		begin := time.Now()
		require.NoError(t, r.TerminateChild(ctx, "p"))
		require.NoError(t, r.Stop(ctx))
		require.Zero(t, time.Since(begin))
	})
}

// The child whose restarts were too many is not running, and not restarting, while its supervisor
// gives up.
func TestTheChildOfAGiveUpIsNotRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, other := newProbe("p"), newProbe("other")
		p.before = func(n int) error {
			if n > 1 {
				return errCrash
			}
			return nil
		}
		r, _ := tree(t, supervisor.Spec{Intensity: many(2), Build: children(other.child(0), p.child(0))})
		var seen supervisor.State
		other.do(func(ctx context.Context) error {
			<-ctx.Done()
			seen = r.Tree().Children[1].State
			return nil
		})
		p.end(errCrash)
		require.Error(t, r.Wait())
		require.Equal(t, supervisor.NotRunning, seen)
	})
}
