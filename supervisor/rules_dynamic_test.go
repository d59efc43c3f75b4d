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

// dynamic starts a Dynamic of probes under a root, as its child "d".
func dynamic(t testing.TB, spec supervisor.DynamicSpec[*probe]) (*supervisor.Dynamic[*probe], *supervisor.Run,
	*suptest.Recorder) {
	t.Helper()
	if spec.Start == nil {
		spec.Start = func(ctx context.Context, p *probe) (supervisor.Service, error) { return p.start(ctx) }
	}

	d, err := supervisor.NewDynamic(spec)
	require.NoError(t, err)
	r, w := tree(t, supervisor.Spec{Name: "root", Intensity: many(9),
		Build: children(supervisor.Child{ID: "d", Start: func(context.Context) (supervisor.Service, error) {
			return d, nil
		}})})

	return d, r, w
}

// child_adm_simple, sup_start_child_returns_error_simple, sup_start_ignore_*_simple,
// which_children_simple_one_for_one
func TestRule28_Rule29_Rule70_Rule71_Rule72_DynamicAdministration(t *testing.T) {
	d, r, _ := dynamic(t, supervisor.DynamicSpec[*probe]{Name: "d", MaxChildren: 2})
	n, err := d.CountChildren()
	require.NoError(t, err)
	require.Equal(t, supervisor.Counts{Specs: 1}, n) // nothing is started by itself

	a, b := newProbe("a"), newProbe("b")
	ref, err := d.StartChild(ctx, "a", a)
	require.NoError(t, err)
	require.Equal(t, "d/a", ref.Path())
	_, err = d.StartChild(ctx, "a", a)
	var already *supervisor.AlreadyStartedError
	require.ErrorAs(t, err, &already)
	require.Equal(t, ref, already.Ref)
	_, err = d.StartChild(ctx, "x/y", a)
	require.ErrorIs(t, err, supervisor.ErrSpec)

	for _, c := range []struct{ err, want error }{{errCrash, errCrash}, {supervisor.ErrIgnore, nil}} {
		bad := newProbe("bad")
		bad.before = func(int) error { return c.err }
		ref, err := d.StartChild(ctx, "bad", bad)
		require.ErrorIs(t, err, c.want)
		require.Zero(t, ref)
		_, err = d.WhichChild("bad")
		require.ErrorIs(t, err, supervisor.ErrNotFound)
	}

	named, err := d.StartChild(ctx, "", b)
	require.NoError(t, err)
	require.Equal(t, "1", named.ID())
	_, err = d.StartChild(ctx, "", b)
	require.ErrorIs(t, err, supervisor.ErrMaxChildren)
	list, err := d.WhichChildren()
	require.NoError(t, err)
	require.Len(t, list, 2)
	info, err := d.WhichChild("a")
	require.NoError(t, err)
	require.Equal(t, supervisor.ChildInfo{ID: "a", State: supervisor.Running, Ref: ref}, info)

	require.ErrorIs(t, d.TerminateChild(ctx, "nobody"), supervisor.ErrNotFound)
	stranger, err := r.WhichChild("d")
	require.NoError(t, err)
	require.ErrorIs(t, d.TerminateRef(ctx, stranger.Ref), supervisor.ErrNotFound) // alive, not an instance
	require.ErrorIs(t, d.TerminateRef(ctx, supervisor.Ref{}), supervisor.ErrNotFound)
	require.NoError(t, d.TerminateRef(ctx, ref))
	require.NoError(t, d.TerminateRef(ctx, ref)) // a dead one is no error
	fresh, err := d.StartChild(ctx, "a", a)
	require.NoError(t, err)
	require.NoError(t, d.TerminateRef(ctx, ref)) // a stale handle leaves its successor alone
	require.True(t, fresh.Alive())
	require.NoError(t, d.TerminateChild(ctx, "a"))
	require.False(t, fresh.Alive())

	require.NoError(t, r.Stop(ctx))

	for _, err := range []error{
		second(d.StartChild(ctx, "", a)), d.TerminateChild(ctx, "a"), d.TerminateRef(ctx, ref),
		second(d.WhichChildren()), second(d.WhichChild("a")),
		second(d.CountChildren()), d.Kill("a", nil), d.Inject(ctx, "a", supervisor.Fault{}), d.Stop(ctx),
	} {
		require.ErrorIs(t, err, supervisor.ErrNotRunning)
	}
}

// simple_one_for_one, simple_one_for_one_extra, E: the restart table
func TestRule36_Rule73_DynamicRestarts(t *testing.T) {
	for restart, again := range map[supervisor.Restart][3]bool{
		supervisor.Permanent: {true, true, true}, supervisor.Transient: {false, false, true},
		supervisor.Temporary: {false, false, false},
	} {
		for i, err := range []error{nil, supervisor.ErrShutdown, errCrash} {
			t.Run(fmt.Sprint(restart, err), func(t *testing.T) {
				d, _, _ := dynamic(t, supervisor.DynamicSpec[*probe]{Restart: restart})
				p, other := newProbe("p"), newProbe("other")
				ref, e := d.StartChild(ctx, "p", p)
				require.NoError(t, e)
				_, e = d.StartChild(ctx, "other", other)
				require.NoError(t, e)
				first := <-p.starts
				p.end(err)
				require.Equal(t, err == nil, (<-supervisor.Monitor(ref)).Class == supervisor.Normal)

				if again[i] {
					require.Less(t, first, <-p.starts) // with its stored argument
				} else {
					_, e = d.WhichChild("p")
					require.ErrorIs(t, e, supervisor.ErrNotFound)
				}

				require.Equal(t, 1, other.began())
			})
		}
	}
}

// simple_one_for_one_escalation, maximum restarts
func TestRule40_Rule43_Rule73_DynamicGivesUp(t *testing.T) {
	d, r, w := dynamic(t, supervisor.DynamicSpec[*probe]{Intensity: many(2)})
	p, q := newProbe("p"), newProbe("q")
	p.before = func(n int) error {
		if n > 1 {
			return errCrash
		}
		return nil
	}

	for _, x := range []*probe{p, q} {
		_, err := d.StartChild(ctx, x.id, x)
		require.NoError(t, err)
	}

	<-p.starts
	p.end(errCrash)
	e := until(t, w, 1, exitOf("d")).Exit
	require.Equal(t, supervisor.Shutdown, e.Class)
	require.ErrorIs(t, e.Err, supervisor.ErrMaxIntensity)
	require.ErrorContains(t, e.Err, "d/p")
	require.Equal(t, 3, p.began())
	until(t, w, 2, at("d")) // served again, without instances
	n, err := d.CountChildren()
	require.NoError(t, err)
	require.Zero(t, n.Active)
	require.Equal(t, 1, r.Tree().InWindow)
}

// hanging_restart_loop_simple, count_restarting_children
func TestRule24_Rule30_Rule52_DynamicHangingRestartLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, r, w := dynamic(t, supervisor.DynamicSpec[*probe]{Intensity: many(1 << 30), MaxChildren: 1,
			Backoff: supervisor.Backoff{Min: time.Second}})
		p := newProbe("p")
		p.before = func(n int) error {
			if n > 1 {
				return errCrash
			}
			return nil
		}
		_, err := d.StartChild(ctx, "p", p)
		require.NoError(t, err)
		<-p.starts
		p.end(errCrash)
		until[supervisor.ChildStartFailed](t, w, 2, nil)
		synctest.Wait()
		n, err := d.CountChildren()
		require.NoError(t, err)
		require.Equal(t, supervisor.Counts{Specs: 1, Workers: 1}, n)
		info, err := d.WhichChild("p")
		require.NoError(t, err)
		require.Equal(t, supervisor.Restarting, info.State)
		require.Equal(t, supervisor.Restarting, mustFind(t, r, "d/p").State)
		require.ErrorIs(t, r.Kill("d/p", nil), supervisor.ErrRestarting)
		_, err = d.StartChild(ctx, "p", p)
		require.ErrorIs(t, err, supervisor.ErrMaxChildren) // restarting children count too
		require.NoError(t, d.TerminateChild(ctx, "p"))
		attempts := p.began()
		timer := time.NewTimer(time.Hour)
		<-timer.C
		require.Equal(t, attempts, p.began())

		_, err = d.StartChild(ctx, "p", newProbe("fresh"))
		require.NoError(t, err)
		require.NoError(t, r.Kill("d/p", nil))
		synctest.Wait()
		_, err = d.StartChild(ctx, "p", p)
		require.Error(t, err)
		require.NoError(t, r.Stop(ctx)) // with an instance between two attempts
	})
}

// simple_one_for_one_restart_ignore
func TestRule54_DynamicIgnoreDuringARestart(t *testing.T) {
	d, _, w := dynamic(t, supervisor.DynamicSpec[*probe]{})
	p := newProbe("p")
	p.before = func(n int) error {
		if n > 1 {
			return supervisor.ErrIgnore
		}
		return nil
	}
	_, err := d.StartChild(ctx, "p", p)
	require.NoError(t, err)
	<-p.starts
	p.end(errCrash)
	until[supervisor.ChildIgnored](t, w, 1, nil)
	_, err = d.WhichChild("p")
	require.ErrorIs(t, err, supervisor.ErrNotFound)
}

// simple_one_for_one_shutdown, sup_stop_timeout_dynamic, sup_stop_non_shutdown_exit_dynamic
func TestRule74_ParallelShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		type end struct {
			after time.Duration
			err   error
		}

		d, err := supervisor.NewDynamic(supervisor.DynamicSpec[end]{
			Shutdown: 10 * time.Second, Orphan: supervisor.Abandon, Restart: supervisor.Temporary,
			Start: func(_ context.Context, e end) (supervisor.Service, error) {
				return supervisor.ServiceFunc(func(ctx context.Context) error {
					<-ctx.Done()
					if e.after < 0 {
						<-release
					}
					timer := time.NewTimer(e.after)
					<-timer.C
					return e.err
				}), nil
			},
		})
		require.NoError(t, err)
		r, w := tree(t, supervisor.Spec{
			Build: children(supervisor.Child{ID: "d", Start: func(context.Context) (supervisor.Service, error) {
				return d, nil
			}})})

		for range 100 {
			_, err := d.StartChild(ctx, "", end{after: time.Second})
			require.NoError(t, err)
		}

		for range 3 {
			_, err := d.StartChild(ctx, "", end{after: 9 * time.Second, err: errCrash})
			require.NoError(t, err)
		}

		begin := time.Now()
		require.NoError(t, r.TerminateChild(ctx, "d"))
		require.Equal(t, 9*time.Second, time.Since(begin)) // the longest, not the sum
		e := until[supervisor.ShutdownError](t, w, 1, nil)
		require.Equal(t, 3, e.Count) // by reason
		require.ErrorIs(t, e.Exit.Err, errCrash)
		require.Equal(t, "d", e.Path)

		_, err = r.RestartChild(ctx, "d")
		require.NoError(t, err)

		for range 2 {
			_, err := d.StartChild(ctx, "", end{after: -1})
			require.NoError(t, err)
		}

		begin = time.Now()
		require.NoError(t, r.TerminateChild(ctx, "d"))
		require.Equal(t, 10*time.Second, time.Since(begin))
		require.Len(t, r.Orphans(), 2)
		require.Equal(t, 2, until[supervisor.ShutdownError](t, w, 2, nil).Count)
		close(release)
		until[supervisor.OrphanEnded](t, w, 2, nil)
		require.Empty(t, r.Orphans())
	})
}

// scale_start_stop_many_children, simple_one_for_one_scale_many_temporary_children: ten times the
// children cost about ten times as much, counted in allocations. A wall time would depend more on
// the machine; the benchmarks measure it.
func TestRule75_TenTimesTheChildren(t *testing.T) {
	cost := func(f func(n int), n int) float64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f(n)
		runtime.ReadMemStats(&after)
		return float64(after.TotalAlloc - before.TotalAlloc)
	}
	for name, f := range map[string]func(int){
		"supervisor": func(n int) {
			var list []supervisor.Child
			for i := range n {
				list = append(list, supervisor.Child{ID: fmt.Sprint(i), Start: idle})
			}

			s, err := supervisor.New(supervisor.Spec{Intensity: many(n), Build: children(list...)})
			require.NoError(t, err)
			r, err := s.Start(ctx)
			require.NoError(t, err)

			for i := range n {
				_, err := r.StartChild(ctx, supervisor.Child{ID: fmt.Sprint("x", i), Restart: supervisor.Temporary,
					Start: idle})
				require.NoError(t, err)
				require.NoError(t, r.Kill(fmt.Sprint(i), nil)) // one restart for each
			}

			for i := range n {
				require.NoError(t, r.TerminateChild(ctx, fmt.Sprint("x", i)))
			}

			require.NoError(t, r.Stop(ctx))
		},
		"dynamic": func(n int) {
			d, r, _ := dynamic(t,
				supervisor.DynamicSpec[*probe]{Restart: supervisor.Temporary,
					Start: func(context.Context, *probe) (supervisor.Service, error) {
						return supervisor.ServiceFunc(func(ctx context.Context) error { <-ctx.Done(); return nil }), nil
					}})

			for i := range n {
				_, err := d.StartChild(ctx, "", nil)
				require.NoError(t, err)
				if i%2 == 0 {
					require.NoError(t, d.TerminateChild(ctx, fmt.Sprint(i+1)))
				}
			}

			require.NoError(t, r.Stop(ctx))
		},
	} {
		f(100) // the allocations that are made once
		few, many := cost(f, 300), cost(f, 3000)
		require.Less(t, many, 30*few, "%s: %.0f bytes for 300, %.0f for 3000", name, few, many)
	}
}

// sup_stop_brutal_kill_dynamic
func TestRule60_Rule74_DynamicBrutalAndEscalate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		deaf := func(context.Context, *probe) (supervisor.Service, error) {
			return supervisor.ServiceFunc(func(context.Context) error { <-release; return nil }), nil
		}
		d, r, _ := dynamic(t, supervisor.DynamicSpec[*probe]{Start: deaf, Shutdown: supervisor.Brutal})

		for range 10 {
			_, err := d.StartChild(ctx, "", nil)
			require.NoError(t, err)
		}

		require.NoError(t, d.TerminateChild(ctx, "1"))
		begin := time.Now()
		require.NoError(t, r.Stop(ctx))
		require.Zero(t, time.Since(begin))
		require.Len(t, d.Orphans(), 10)

		d, r, w := dynamic(t, supervisor.DynamicSpec[*probe]{Start: deaf, Shutdown: time.Second})
		_, err := d.StartChild(ctx, "deaf", nil)
		require.NoError(t, err)
		_, err = d.StartChild(ctx, "deaf2", nil)
		require.NoError(t, err)
		require.ErrorIs(t, d.TerminateChild(ctx, "deaf"), supervisor.ErrOrphan)
		e := until(t, w, 1, exitOf("d")).Exit
		require.ErrorIs(t, e.Err, supervisor.ErrOrphan)
		require.ErrorContains(t, e.Err, "d/deaf did not end")
		until(t, w, 2, at("d"))
		require.Equal(t, 1, r.Tree().InWindow)
		_, err = d.StartChild(ctx, "deaf3", nil)
		require.NoError(t, err)
		require.ErrorIs(t, r.Stop(ctx), supervisor.ErrOrphan) // the top's error names it
		require.Len(t, d.Orphans(), 3)
		close(release)
		synctest.Wait()
		require.Empty(t, r.Orphans())
	})
}

// simple_one_for_one_scale_many_temporary_children; rule 80: no progress reports; nothing is kept
// of an instance that has ended
func TestRule75_Rule80_ShortLivedChildrenLeaveNothing(t *testing.T) {
	d, r, w := dynamic(t, supervisor.DynamicSpec[*probe]{Restart: supervisor.Temporary,
		Start: func(context.Context, *probe) (supervisor.Service, error) {
			return supervisor.ServiceFunc(func(context.Context) error { return nil }), nil
		}})
	before := len(r.Events())

	for range 20_000 {
		ref, err := d.StartChild(ctx, "", nil)
		require.NoError(t, err)
		<-supervisor.Monitor(ref)
	}

	require.Len(t, r.Events(), before)
	list, err := d.WhichChildren()
	require.NoError(t, err)
	require.Empty(t, list)
	require.Equal(t, 1, counted[supervisor.ChildStarted](t, r, w))

	loud, _, w := dynamic(t, supervisor.DynamicSpec[*probe]{Restart: supervisor.Temporary, Verbose: true})
	p := newProbe("p")
	_, err = loud.StartChild(ctx, "p", p)
	require.NoError(t, err)
	p.end(nil)
	require.False(t, until(t, w, 1, exitOf("d/p")).Reported)
	_, err = loud.StartChild(ctx, "p", p)
	require.NoError(t, err)
	require.NoError(t, loud.TerminateChild(ctx, "p"))
	until(t, w, 1, func(e supervisor.ChildStopped) bool { return e.Path == "d/p" })
}

// A verbose Dynamic emits events for restarts as for starts, each before the end of that
// incarnation. A start that failed under a call is marked as explicit.
func TestRule79_VerboseDynamicTellsRestarts(t *testing.T) {
	d, r, w := dynamic(t, supervisor.DynamicSpec[*probe]{Verbose: true, Intensity: many(9)})
	p := newProbe("p")
	p.before = func(n int) error {
		if n == 1 || n == 3 {
			return errCrash
		}
		return nil
	}
	_, err := d.StartChild(ctx, "p", p)
	require.ErrorIs(t, err, errCrash)
	_, err = d.StartChild(ctx, "p", p)
	require.NoError(t, err)
	p.end(errCrash)
	until(t, w, 2, at("d/p"))
	require.NoError(t, d.TerminateChild(ctx, "p"))
	require.NoError(t, r.Flush(ctx))
	var got []string

	for _, e := range r.Events() {
		switch e := e.(type) {
		case supervisor.ChildStarting:
			got = append(got, "starting "+e.Path)

		case supervisor.ChildStarted:
			got = append(got, fmt.Sprint("started ", e.Path, " ", e.Explicit))

		case supervisor.ChildStartFailed:
			got = append(got, fmt.Sprint("failed ", e.Path, " ", e.Explicit))

		case supervisor.ChildExited:
			got = append(got, "exited "+e.Path)

		case supervisor.ChildStopped:
			got = append(got, "stopped "+e.Path)
		}
	}

	require.Equal(t, []string{
		"starting d", "started d false", "starting d/p", "failed d/p true", "starting d/p", "started d/p true",
		"exited d/p",
		"starting d/p", "failed d/p false", "starting d/p", "started d/p false", "stopped d/p",
	}, got)
}

// simple_one_for_one_corruption
func TestRule21_Rule73_TemporaryArgumentsAreNotKept(t *testing.T) {
	type big struct{ data *[1 << 16]byte }
	d, err := supervisor.NewDynamic(supervisor.DynamicSpec[big]{Restart: supervisor.Temporary,
		Start: func(_ context.Context, b big) (supervisor.Service, error) {
			b.data[0]++
			return supervisor.ServiceFunc(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }), nil
		}})
	require.NoError(t, err)
	_, _ = tree(t, supervisor.Spec{
		Build: children(supervisor.Child{ID: "d", Start: func(context.Context) (supervisor.Service, error) {
			return d, nil
		}})})
	collected := make(chan struct{})
	func() {
		b := big{new([1 << 16]byte)}
		runtime.AddCleanup(b.data, func(c chan struct{}) { close(c) }, collected)
		_, err := d.StartChild(ctx, "", b)
		require.NoError(t, err)
	}()
	requireCollected(t, collected)
}
