package supervisor_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// These are errors that were seen in other supervisors. The table in docs/otp-conformance.md names
// each of these tests.

// A child that ends normally and is not to be restarted touches no sibling and counts against no
// limit, whatever the strategy.
func TestHazard_NormalExitTouchesNobody(t *testing.T) {
	for _, strategy := range []supervisor.Strategy{supervisor.OneForOne, supervisor.OneForAll, supervisor.RestForOne} {
		for _, restart := range []supervisor.Restart{supervisor.Transient, supervisor.Temporary} {
			for _, end := range []error{nil, supervisor.ErrShutdown,
				fmt.Errorf("%w: drained", supervisor.ErrShutdown)} {
				t.Run(fmt.Sprintf("%v/%v/%v", strategy, restart, end), func(t *testing.T) {
					before, p, after := newProbe("before"), newProbe("p"), newProbe("after")
					r, w := tree(t,
						supervisor.Spec{Strategy: strategy, Intensity: supervisor.Intensity{Period: time.Hour},
							Build: children(before.child(0), p.child(restart), after.child(0))})
					p.end(end)
					until(t, w, 1, exitOf("p"))
					w.Settle(t, r)
					require.Equal(t, []string{"+before", "+p", "+after", "!p"}, steps(r))
					require.Zero(t, r.Tree().InWindow)
					require.Equal(t, []int{1, 1, 1}, []int{before.began(), p.began(), after.began()})
				})
			}
		}
	}
}

// Every attempt counts, of all children together: a start that failed as well as a crash.
func TestHazard_EveryAttemptCounts(t *testing.T) {
	p, q := newProbe("p"), newProbe("q")
	p.before = func(n int) error {
		if n == 2 || n == 3 { // two starts in a restart fail
			return errCrash
		}
		return nil
	}
	r, w := tree(t, supervisor.Spec{Intensity: many(4), Build: children(p.child(0), q.child(0))})
	<-p.starts
	p.end(errCrash) // attempts 1 to 3
	<-p.starts
	<-q.starts
	q.end(errCrash) // 4
	<-q.starts
	require.Equal(t, 4, r.Tree().InWindow)
	p.end(errCrash) // 5
	var g *supervisor.GiveUpError
	require.ErrorAs(t, r.Wait(), &g)
	require.Equal(t, 5, g.Attempts)
	require.Equal(t, []int{4, 2}, []int{p.began(), q.began()})
	require.NoError(t, r.Flush(ctx))
	var counts []int

	for _, e := range w.Events() {
		if e, ok := e.(supervisor.RestartScheduled); ok {
			counts = append(counts, e.InWindow)
		}
	}

	require.Equal(t, []int{1, 2, 3, 4}, counts)
}

// A start that fails once inside a restart is tried again, under every strategy. Afterwards all
// children run.
func TestHazard_FailedStartInsideARestartIsRetried(t *testing.T) {
	for _, strategy := range []supervisor.Strategy{supervisor.OneForOne, supervisor.OneForAll, supervisor.RestForOne} {
		for _, failing := range []string{"a", "b"} {
			probes := map[string]*probe{"a": newProbe("a"), "b": newProbe("b")}
			probes[failing].before = func(n int) error {
				if n == 2 {
					return errCrash
				}
				return nil
			}

			r, w := tree(t, supervisor.Spec{Strategy: strategy, Intensity: many(3),
				Build: children(probes["a"].child(0), probes["b"].child(0))})
			dies := probes["a"]
			if strategy == supervisor.OneForOne {
				dies = probes[failing]
			}

			dies.end(errCrash)
			until(t, w, 1, func(e supervisor.ChildStartFailed) bool { return e.Path == failing })
			until(t, w, 2, at(failing))
			w.Settle(t, r)
			for id := range probes {
				require.Equal(t, supervisor.Running, state(t, r, id), "%v, %s failed: %s", strategy, failing, id)
			}

			require.Equal(t, 2, r.Tree().InWindow, "%v: the attempt that failed and the one after it", strategy)
		}
	}
}

// A stop whose caller has left continues, and leaves nothing behind.
func TestHazard_AbandonedStopLeaksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, q := newProbe("p"), newProbe("q")
		s, err := supervisor.New(
			supervisor.Spec{Build: children(p.child(0),
				nested("sub", 0, supervisor.Spec{Build: children(q.child(0))}))})
		require.NoError(t, err)
		r, err := s.Start(ctx)
		require.NoError(t, err)
		release := make(chan struct{})
		q.do(func(ctx context.Context) error { <-ctx.Done(); <-release; return ctx.Err() })
		impatient, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()

		for range 3 { // and more than one of them
			require.ErrorIs(t, r.Stop(impatient), context.DeadlineExceeded)
		}

		require.ErrorIs(t, r.TerminateChild(impatient, "p"), context.DeadlineExceeded,
			"a management call behind it, abandoned too")
		synctest.Wait()
		require.Equal(t, supervisor.Stopping, r.Tree().State)
		require.NoError(t, r.Err(), "not over")
		close(release)
		require.NoError(t, r.Wait())
		synctest.Wait()
		suptest.NoOrphans(t, r)
		suptest.NoLeaks(t, r)
		r, err = s.Start(ctx) // and the supervisor is free
		require.NoError(t, err)
		require.NoError(t, r.Stop(ctx))
	})
}

// A stuck grandchild is in the root's report: in the list of orphans with its stack, in the events,
// and in the error of the stop.
func TestHazard_StuckGrandchildIsInTheRootsReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHang("stuck")
		spec := supervisor.Spec{Name: "root",
			Build: children(nested("a", 0,
				supervisor.Spec{
					Build: children(nested("b", 0,
						supervisor.Spec{Build: children(h.child(0, supervisor.Escalate))}))}))}
		rec := suptest.NewRecorder()
		spec.Observers = []supervisor.Observer{rec}
		s, err := supervisor.New(spec)
		require.NoError(t, err)
		r, err := s.Start(ctx)
		require.NoError(t, err)
		<-h.starts
		err = r.Stop(ctx)
		require.ErrorIs(t, err, supervisor.ErrOrphan)
		require.ErrorContains(t, err, "a/b/stuck")
		var g *supervisor.GiveUpError
		require.ErrorAs(t, err, &g)
		require.Equal(t, "a/b/stuck", g.Offender)
		orphans := r.Orphans()
		require.Len(t, orphans, 1)
		require.Equal(t, "a/b/stuck", orphans[0].Path)
		require.Equal(t, 1, orphans[0].Goroutines)
		require.Contains(t, orphans[0].Stack, "main_test.go", "where it is")
		suptest.Wait(t, rec, 1, func(e supervisor.ChildOrphaned) bool {
			return e.Path == "a/b/stuck" && e.Root == "root"
		})
		close(h.release)
		synctest.Wait()
		require.Empty(t, s.Orphans())
		suptest.Wait(t, rec, 1, func(e supervisor.OrphanEnded) bool { return e.Path == "a/b/stuck" })
	})
}

// A supervisor can be served again after every kind of end: stopped, given up, shut down by itself,
// and a start that failed.
func TestHazard_ServedAgain(t *testing.T) {
	builds := 0
	p, last := newProbe("p"), uint64(0)
	var refuse error
	s, err := supervisor.New(supervisor.Spec{Name: "s", Intensity: supervisor.Intensity{Period: time.Hour},
		AutoShutdown: supervisor.AnySignificant,
		Build: func(context.Context) ([]supervisor.Child, error) {
			builds++
			return []supervisor.Child{p.significant(supervisor.Transient)}, refuse
		}})
	require.NoError(t, err)

	for i, end := range []func(*supervisor.Run){
		func(r *supervisor.Run) { require.NoError(t, r.Stop(ctx)) },
		func(r *supervisor.Run) { p.end(errCrash); require.ErrorIs(t, r.Wait(), supervisor.ErrMaxIntensity) },
		func(r *supervisor.Run) {
			p.end(nil)
			var auto *supervisor.AutoShutdownError
			require.ErrorAs(t, r.Wait(), &auto)
		},
		func(r *supervisor.Run) {
			require.NoError(t, r.Stop(ctx))
			refuse = errCrash
			_, err := s.Start(ctx)
			require.ErrorIs(t, err, errCrash)
			require.ErrorIs(t, s.Serve(ctx), errCrash)
			refuse = nil
			builds -= 2
		},
		func(r *supervisor.Run) { require.NoError(t, r.Stop(ctx)) },
	} {
		r, err := s.Start(ctx)
		require.NoError(t, err)
		require.Equal(t, i+1, builds)
		now := <-p.starts
		require.Less(t, last, now, "a new incarnation, with a new number")
		last = now
		_, err = s.Start(ctx)
		require.ErrorIs(t, err, supervisor.ErrRunning)
		require.ErrorIs(t, s.Serve(ctx), supervisor.ErrRunning)
		end(r)
		<-r.Done()
	}
}

// A handle of an incarnation or a run that is over is refused, and does nothing to the successor.
func TestHazard_StaleHandleIsRefused(t *testing.T) {
	p := newProbe("p")
	var kept []context.Context
	lease := supervisor.NewLease(func() (int, error) { return 7, nil }, func(int) error { return nil }, time.Second)
	var grants []*supervisor.Grant[int]
	p.before = func(int) error { return nil }
	s, err := supervisor.New(supervisor.Spec{Intensity: many(9),
		Build: children(supervisor.Child{ID: "p", Start: func(ctx context.Context) (supervisor.Service, error) {
			kept = append(kept, ctx)
			g, err := lease.Acquire(ctx)
			if err != nil {
				return nil, err
			}
			grants = append(grants, g)
			return p.start(ctx)
		}})})
	require.NoError(t, err)
	r, err := s.Start(ctx)
	require.NoError(t, err)
	first, err := r.WhichChild("p")
	require.NoError(t, err)
	<-p.starts
	p.end(errCrash)
	<-p.starts

	// Of the incarnation that is over.
	require.False(t, first.Ref.Alive())
	require.ErrorIs(t, (<-supervisor.Monitor(first.Ref)).Err, errCrash)
	require.ErrorIs(t, supervisor.Go(kept[0], func(context.Context) error {
		t.Error("it ran")
		return nil
	}), supervisor.ErrNotRunning)
	require.ErrorIs(t, grants[0].Do(func(int) error { t.Error("it wrote"); return nil }), supervisor.ErrFenced)
	require.NoError(t, grants[1].Do(func(v int) error { require.Equal(t, 7, v); return nil }))
	supervisor.Ready(kept[0])
	next, err := r.WhichChild("p")
	require.NoError(t, err)
	require.True(t, next.Ref.Alive())
	require.NotEqual(t, first.Ref, next.Ref)

	// Of an instance of a Dynamic: its successor with the same ID is left alone.
	d, err := supervisor.NewDynamic(supervisor.DynamicSpec[*probe]{Intensity: many(9),
		Start: func(ctx context.Context, p *probe) (supervisor.Service, error) {
			return p.start(ctx)
		}})
	require.NoError(t, err)
	_, err = r.StartChild(ctx, supervisor.Child{ID: "d", Start: func(context.Context) (supervisor.Service, error) {
		return d, nil
	}})
	require.NoError(t, err)
	q := newProbe("q")
	old, err := d.StartChild(ctx, "q", q)
	require.NoError(t, err)
	<-q.starts
	q.end(errCrash)
	again := <-q.starts
	require.NoError(t, d.TerminateRef(ctx, old), "OTP rule 72: it is dead, so that is done")
	info, err := d.WhichChild("q")
	require.NoError(t, err)
	require.Equal(t, again, info.Ref.Incarnation())
	require.True(t, info.Ref.Alive())

	// Of the run that is over.
	require.NoError(t, r.Stop(ctx))
	now, err := s.Start(ctx)
	require.NoError(t, err)
	<-p.starts

	for what, err := range map[string]error{
		"StartChild":     second(r.StartChild(ctx, supervisor.Child{ID: "x", Start: idle})),
		"TerminateChild": r.TerminateChild(ctx, "p"), "RestartChild": second(r.RestartChild(ctx, "p")),
		"DeleteChild": r.DeleteChild(ctx, "p"), "Kill": r.Kill("p", nil), "Reload": r.Reload(ctx, supervisor.Spec{}),
		"WhichChildren": second(r.WhichChildren()),
	} {
		require.ErrorIs(t, err, supervisor.ErrNotRunning, what)
	}

	require.NoError(t, r.Stop(ctx), "it has stopped")
	require.Equal(t, supervisor.Running, state(t, now, "p"))
	require.NoError(t, now.Stop(ctx))
}

// An exit is never lost in a race between start and link: of 100,000 crashes in a row, without a
// pause, each is counted.
func TestHazard_ImmediateCrashes(t *testing.T) {
	const n = 100_000
	starts := 0
	c := supervisor.Child{ID: "p", Start: func(context.Context) (supervisor.Service, error) {
		starts++
		return supervisor.ServiceFunc(func(context.Context) error { return errCrash }), nil
	}}
	s, err := supervisor.New(supervisor.Spec{Intensity: many(n), Build: children(c)})
	require.NoError(t, err)
	var g *supervisor.GiveUpError
	require.ErrorAs(t, s.Serve(ctx), &g)
	require.Equal(t, n+1, starts)
	require.Equal(t, n+1, g.Attempts)
}

// The same for a watcher outside: a Monitor of an instance that ended before StartChild returned
// gives its exit.
func TestHazard_ImmediateCrashesAreMonitored(t *testing.T) {
	const n = 20_000
	ends := []func() error{func() error {
		return errCrash
	}, func() error { panic(errCrash) }, func() error { runtime.Goexit(); return nil }, func() error { return nil }}

	d, err := supervisor.NewDynamic(supervisor.DynamicSpec[int]{Restart: supervisor.Temporary,
		Start: func(_ context.Context, i int) (supervisor.Service, error) {
			return supervisor.ServiceFunc(func(context.Context) error { return ends[i%len(ends)]() }), nil
		}})
	require.NoError(t, err)
	served := make(chan error, 1)
	_, w := tree(t, supervisor.Spec{
		Build: children(supervisor.Child{ID: "d", Start: func(context.Context) (supervisor.Service, error) {
			return d, nil
		}})})
	close(served)
	classes := map[supervisor.Class]int{}

	for i := range n {
		ref, err := d.StartChild(ctx, "", i)
		require.NoError(t, err)
		classes[(<-supervisor.Monitor(ref)).Class]++
	}

	require.Equal(t, map[supervisor.Class]int{supervisor.Abnormal: n / 4 * 3, supervisor.Normal: n / 4}, classes)
	counts, err := d.CountChildren()
	require.NoError(t, err)
	require.Equal(t, supervisor.Counts{Specs: 1}, counts)
	suptest.Never[supervisor.RestartScheduled](t, w, nil)
}
