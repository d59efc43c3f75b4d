package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// Each report has the supervisor's place, the context, the reason and the offender.
func TestRule78_Rule79_Reports(t *testing.T) {
	p := newProbe("p")
	r, w := tree(t, supervisor.Spec{Name: "root", Intensity: many(1),
		Build: children(nested("sub", supervisor.Transient,
			supervisor.Spec{Intensity: many(1), Build: children(p.child(0))}))})
	first := <-p.starts
	started := until(t, w, 1, at("sub/p"))
	require.False(t, started.Explicit)
	require.Equal(t, first, started.Incarnation)
	require.Equal(t, "root", started.Root)
	p.end(errCrash)
	<-p.starts
	p.end(fmt.Errorf("once more: %w", errCrash))
	g := until[supervisor.GaveUp](t, w, 1, nil)
	require.Equal(t, "sub", g.Path)
	require.Equal(t, "sub: supervisor sub gave up: reached maximum restart intensity (1 in 1h0m0s): last was sub/p: "+
		"once more: crash", g.String())
	_, err := r.StartChild(ctx, supervisor.Child{ID: "x", Start: idle})
	require.NoError(t, err)
	require.True(t, until(t, w, 1, at("x")).Explicit) // external_start_no_progress_log
	seq := uint64(0)

	for _, e := range w.Events() {
		require.Equal(t, seq+1, e.Head().Seq) // in order, none missing
		seq++
		require.NotEmpty(t, e.String())
	}
}

// code_change, code_change_map, significant_upgrade_*
func TestRule81_Reload(t *testing.T) {
	a, b, c := newProbe("a"), newProbe("b"), newProbe("c")
	s, err := supervisor.New(supervisor.Spec{Build: children(a.child(supervisor.Temporary),
		b.child(supervisor.Transient))})
	require.NoError(t, err)
	r, err := s.Start(ctx)
	require.NoError(t, err)
	<-a.starts
	first := <-b.starts
	require.NoError(t, s.Reload(ctx, supervisor.Spec{
		Strategy: supervisor.OneForAll, Intensity: many(7), AutoShutdown: supervisor.AnySignificant,
		Build: children(c.child(0), b.significant(supervisor.Transient)),
	}))
	list, err := r.WhichChildren()
	require.NoError(t, err)
	// the new list, then the kept old ones
	require.Equal(t, []string{"a", "b", "c"}, []string{list[0].ID, list[1].ID, list[2].ID})
	require.Equal(t, first, list[1].Ref.Incarnation()) // what runs is kept
	// what is new is not started
	require.Equal(t, supervisor.NotRunning, list[2].State)
	require.Equal(t, many(7), r.Tree().Intensity)

	for _, bad := range []supervisor.Spec{
		{Strategy: 9}, {Build: children(supervisor.Child{})},
		{Build: func(context.Context) ([]supervisor.Child, error) { return nil, errCrash }},
		{Build: func(context.Context) ([]supervisor.Child, error) { panic(errCrash) }},
	} {
		require.Error(t, r.Reload(ctx, bad))
		require.Equal(t, many(7), r.Tree().Intensity)
	}

	require.NoError(t, r.Reload(ctx, supervisor.Spec{Build: func(context.Context) ([]supervisor.Child, error) {
		return nil, supervisor.ErrIgnore
	}}))
	require.Equal(t, many(7), r.Tree().Intensity)
	require.NoError(t, r.Reload(ctx,
		supervisor.Spec{AutoShutdown: supervisor.AnySignificant,
			Build: children(a.child(supervisor.Temporary), b.significant(supervisor.Transient), c.child(0))}))
	spec, err := r.ChildSpec("a")
	require.NoError(t, err)
	require.Nil(t, spec.Start) // rule 21 holds

	b.end(nil) // now significant: the mode takes effect at the next end
	var auto *supervisor.AutoShutdownError
	require.ErrorAs(t, r.Wait(), &auto)

	r, err = s.Start(ctx) // later runs are of the new specification
	require.NoError(t, err)
	n, err := r.CountChildren()
	require.NoError(t, err)
	require.Equal(t, 3, n.Specs)
	require.NoError(t, r.Stop(ctx))
}

// What runs is kept under its new specification: its shutdown time and what becomes of it as an
// orphan are the new ones.
func TestRule81_ReloadConcernsWhatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHang("h")
		r, w := tree(t, supervisor.Spec{Build: children(h.child(0, supervisor.Escalate))})
		<-h.starts
		c := h.child(0, supervisor.Abandon)
		c.Shutdown = time.Minute
		require.NoError(t, r.Reload(ctx, supervisor.Spec{Build: children(c)}))
		begin := time.Now()
		require.ErrorIs(t, r.TerminateChild(ctx, "h"), supervisor.ErrOrphan)
		require.Equal(t, time.Minute, time.Since(begin))
		require.Equal(t, supervisor.Abandon, until[supervisor.ChildOrphaned](t, w, 1, nil).Policy)
		require.Equal(t, supervisor.Running, r.Tree().State)
		close(h.release)
		until[supervisor.OrphanEnded](t, w, 1, nil)
	})
}

// What runs can be restarted after a reload, and what does not run can be started, temporary or
// not.
func TestRule81_RestartsAfterAReload(t *testing.T) {
	p, q := newProbe("p"), newProbe("q")
	spec := supervisor.Spec{Intensity: many(9), Build: children(p.child(0))}
	r, _ := tree(t, spec)
	<-p.starts
	spec.Build = children(p.child(0), q.child(supervisor.Temporary))
	require.NoError(t, r.Reload(ctx, spec))
	p.end(errCrash)
	<-p.starts
	_, err := r.RestartChild(ctx, "q")
	require.NoError(t, err)
	<-q.starts
}

// code_change_simple, code_change_simple_map
func TestRule81_DynamicReload(t *testing.T) {
	d, r, w := dynamic(t, supervisor.DynamicSpec[*probe]{Restart: supervisor.Temporary,
		Intensity: supervisor.Intensity{Period: time.Hour}})
	old, p := newProbe("old"), newProbe("p")
	_, err := d.StartChild(ctx, "old", old)
	require.NoError(t, err)

	spec := supervisor.DynamicSpec[*probe]{Name: "new", Intensity: many(5), MaxChildren: 2, Verbose: true,
		Start: func(ctx context.Context, p *probe) (supervisor.Service, error) {
			return supervisor.ServiceFunc(p.serve), nil // it does not count
		}}
	for _, bad := range []supervisor.DynamicSpec[*probe]{{}, {Start: spec.Start, MaxChildren: -1},
		{Start: spec.Start, Shutdown: -7}, {Start: spec.Start, Intensity: supervisor.Intensity{Max: 1}}} {
		require.ErrorIs(t, d.Reload(bad), supervisor.ErrSpec)
	}

	require.NoError(t, d.Reload(spec))
	require.Equal(t, many(5), d.Tree().Intensity)
	until[supervisor.Reloaded](t, w, 1, nil)
	_, err = d.StartChild(ctx, "p", p)
	require.NoError(t, err)
	_, err = d.StartChild(ctx, "q", p)
	require.ErrorIs(t, err, supervisor.ErrMaxChildren)
	<-p.starts
	p.end(errCrash) // permanent now
	<-p.starts
	require.Zero(t, p.began(), "started by the new Start")
	require.NoError(t, d.Reload(spec)) // the same again: what runs can still be restarted
	p.end(errCrash)
	<-p.starts
	old.end(errCrash) // still temporary, as it was started
	until(t, w, 1, exitOf("d/old"))
	_, err = d.WhichChild("old")
	require.ErrorIs(t, err, supervisor.ErrNotFound)

	spec.Restart = supervisor.Temporary
	require.NoError(t, d.Reload(spec))
	p.end(errCrash)
	until(t, w, 3, exitOf("d/p"))
	w.Settle(t, r)
	n, err := d.CountChildren()
	require.NoError(t, err)
	require.Equal(t, supervisor.Counts{Specs: 1}, n)
	require.NoError(t, r.Kill("d", nil)) // later runs have it too
	until(t, w, 2, at("d"))
	require.Equal(t, many(5), d.Tree().Intensity)
	require.NoError(t, r.Stop(ctx))
	require.ErrorIs(t, d.Reload(spec), supervisor.ErrNotRunning)
}

// significant_upgrade_*: the new mode, and the new significance, take effect at the next end.
func TestRule81_AutoShutdownChanges(t *testing.T) {
	modes := []supervisor.AutoShutdown{supervisor.Never, supervisor.AnySignificant, supervisor.AllSignificant}
	for _, from := range modes {
		for _, to := range modes {
			for _, significant := range []bool{false, true} {
				if significant && to == supervisor.Never {
					continue // not a specification
				}
				t.Run(fmt.Sprintf("%v to %v, significant %v", from, to, significant), func(t *testing.T) {
					a, b := newProbe("a"), newProbe("b")
					spec := func(mode supervisor.AutoShutdown, significant bool) supervisor.Spec {
						ca, cb := a.child(supervisor.Transient), b.child(supervisor.Transient)
						ca.Significant, cb.Significant = significant, significant
						return supervisor.Spec{AutoShutdown: mode, Build: children(ca, cb)}
					}
					r, w := tree(t, spec(from, from != supervisor.Never))
					require.NoError(t, r.Reload(ctx, spec(to, significant)))
					ends := func(p *probe, over bool) {
						p.end(nil)
						if over {
							var auto *supervisor.AutoShutdownError
							require.ErrorAs(t, r.Wait(), &auto)
							return
						}
						until(t, w, 1, exitOf(p.id))
						w.Settle(t, r)
					}

					any, all := significant && to == supervisor.AnySignificant, significant &&
						to == supervisor.AllSignificant

					if ends(a, any); !any {
						ends(b, all)
					}
				})
			}
		}
	}
}

// An instance between two attempts is restarted under the new template, and forgotten if that is
// temporary.
func TestRule81_DynamicReloadBetweenTwoAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for restart, again := range map[supervisor.Restart]bool{supervisor.Permanent: true,
			supervisor.Temporary: false} {
			p := newProbe("p")
			spec := supervisor.DynamicSpec[*probe]{Intensity: many(9), Backoff: supervisor.Backoff{Min: time.Second},
				Start: func(ctx context.Context, p *probe) (supervisor.Service, error) {
					return p.start(ctx)
				}}
			d, r, _ := dynamic(t, spec)
			_, err := d.StartChild(ctx, "p", p)
			require.NoError(t, err)
			p.end(errCrash)
			synctest.Wait()
			spec.Restart = restart
			require.NoError(t, d.Reload(spec))
			n, err := d.CountChildren()
			require.NoError(t, err)
			require.Equal(t, again, n.Workers == 1)
			<-time.After(time.Minute)
			synctest.Wait()
			require.Equal(t, again, p.began() == 2)
			require.NoError(t, r.Stop(ctx))
		}
	})
}

// Names are paths: one reaches the incarnation that lives, whoever had it before
// (simple_global_supervisor).
func TestPathsNameTheLivingIncarnation(t *testing.T) {
	p := newProbe("p")
	r, w := tree(t, supervisor.Spec{Intensity: many(9),
		Build: children(nested("sub", 0, supervisor.Spec{Intensity: many(9), Build: children(p.child(0))}))})
	last := <-p.starts

	for i, path := range []string{"sub/p", "sub", "sub/p"} {
		require.NoError(t, r.Kill(path, nil))
		now := <-p.starts
		until(t, w, i+2, at("sub/p"))
		n, ok := w.Settle(t, r).Find("sub/p")
		require.True(t, ok)
		require.Equal(t, now, n.Incarnation)
		require.Less(t, last, now)
		last = now
	}
}

// A child is named by its ID alone: no call of a Run takes an incarnation, and a path is no ID.
func TestRule25_ChildrenAreNamedByID(t *testing.T) {
	run := reflect.TypeFor[*supervisor.Run]()
	for i := range run.NumMethod() {
		m := run.Method(i)
		for j := range m.Type.NumIn() {
			require.NotEqual(t, reflect.TypeFor[supervisor.Ref](), m.Type.In(j), m.Name)
		}
	}

	r, _ := tree(t, supervisor.Spec{
		Build: children(nested("sub", 0, supervisor.Spec{Build: children(supervisor.Child{ID: "x", Start: idle})}))})
	require.ErrorIs(t, r.TerminateChild(ctx, "sub/x"), supervisor.ErrNotFound)
	require.Equal(t, 2, len(steps(r)), "nothing has stopped")
}

// A call into one's own supervisor, or one above it, is refused and never hangs.
func TestSelfCall_WouldDeadlock(t *testing.T) {
	p := newProbe("p")
	var sub *supervisor.Supervisor
	var r *supervisor.Run
	r, _ = tree(t, supervisor.Spec{
		Build: children(supervisor.Child{ID: "sub", Start: func(context.Context) (_ supervisor.Service, err error) {
			sub, err = supervisor.New(supervisor.Spec{Build: children(p.child(0))})
			return sub, err
		}})})
	<-p.starts
	errs := make(chan error, 9)
	p.do(func(ctx context.Context) error {
		for _, s := range []interface {
			StartChild(context.Context, supervisor.Child) (supervisor.Ref, error)
			RestartChild(context.Context, string) (supervisor.Ref, error)
			TerminateChild(context.Context, string) error
			Stop(context.Context) error
		}{sub, r} {
			errs <- second(s.StartChild(ctx, supervisor.Child{ID: "x", Start: idle}))
			errs <- second(s.RestartChild(ctx, "p"))
			errs <- s.TerminateChild(ctx, "p")
			errs <- s.Stop(ctx)
		}

		_ = r.Tree() // snapshots are no calls
		errs <- second(sub.WhichChildren())
		<-ctx.Done()
		return ctx.Err()
	})

	for range 8 {
		require.ErrorIs(t, <-errs, supervisor.ErrWouldDeadlock)
	}

	require.NoError(t, <-errs)
}

// A supervisor that a service runs itself is in the tree below it, under its name.
func TestInnerSupervisor(t *testing.T) {
	leaf := newProbe("leaf")
	r, w := tree(t, supervisor.Spec{
		Build: children(supervisor.Child{ID: "engine", Ack: supervisor.AckReady,
			Start: supervisor.Start(func(ctx context.Context) error {
				s, err := supervisor.New(supervisor.Spec{Name: "inner", Build: children(leaf.child(0))})
				if err != nil {
					return err
				}
				run, err := s.Start(ctx)
				if err != nil {
					return err
				}
				if _, err := s.Start(ctx); !errors.Is(err, supervisor.ErrRunning) {
					return err
				}
				twin, err := supervisor.New(supervisor.Spec{Name: "inner"})
				if err != nil {
					return err
				}
				if err := twin.Serve(ctx); !errors.Is(err, supervisor.ErrAlreadyStarted) {
					return err
				}

				supervisor.Ready(ctx)

				return run.Wait()
			})})})
	<-leaf.starts
	require.Equal(t, supervisor.Running, mustFind(t, r, "engine/inner/leaf").State)
	require.NoError(t, r.Kill("engine/inner/leaf", nil))
	<-leaf.starts
	require.NoError(t, r.Kill("engine/inner", errReason))
	e := until(t, w, 1, exitOf("engine")).Exit
	require.ErrorIs(t, e.Err, errReason)
	<-leaf.starts
}

func TestObservers(t *testing.T) {
	t.Run("one that panics is detached, and the others hear of it", func(t *testing.T) {
		for _, bad := range []func(){func() { panic("observer") }, func() { runtime.Goexit() }} {
			_, w := tree(t, supervisor.Spec{
				Observers: []supervisor.Observer{supervisor.ObserverFunc(func(supervisor.Event) {
					bad()
				})}})
			require.Error(t, until[supervisor.ObserverFailed](t, w, 1, nil).Err)
		}
	})

	t.Run("one that is slow loses the newest and is told so", func(t *testing.T) {
		gate := make(chan struct{})
		lost := make(chan uint64, 1)
		blocked := make(chan struct{}, 1)
		s, err := supervisor.New(supervisor.Spec{Intensity: many(1 << 20),
			Observers: []supervisor.Observer{supervisor.ObserverFunc(func(e supervisor.Event) {
				select {
				case blocked <- struct{}{}:
				default:
				}
				<-gate
				if d, ok := e.(supervisor.EventsDropped); ok {
					lost <- d.Count
				}
			})}, Build: children(supervisor.Child{ID: "p", Start: func(context.Context) (supervisor.Service, error) {
				return supervisor.ServiceFunc(func(context.Context) error { return errCrash }), nil
			}})})
		require.NoError(t, err)
		r, err := s.Start(ctx)
		require.NoError(t, err)
		<-blocked

		for { // four events for each life
			if n, ok := r.Tree().Find("p"); ok && n.Restarts > supervisor.ObserverBacklog/3 {
				break
			}
			runtime.Gosched()
		}

		require.NoError(t, r.Stop(ctx)) // it holds nobody up
		close(gate)
		require.Positive(t, <-lost)
		require.NoError(t, r.Flush(ctx))
		require.Len(t, r.Events(), supervisor.HistorySize)
	})

	t.Run("of a nested supervisor they get its subtree", func(t *testing.T) {
		inner := suptest.NewRecorder()
		p := newProbe("p")
		r, _ := tree(t, supervisor.Spec{Build: children(supervisor.Child{ID: "x", Start: idle},
			nested("sub", 0, supervisor.Spec{Observers: []supervisor.Observer{inner}, Build: children(p.child(0))}))})
		require.NoError(t, r.Stop(ctx))
		until[supervisor.SupervisorStopped](t, inner, 1, nil)
		for _, e := range inner.Events() {
			require.Regexp(t, "^sub(/p)?$", e.Head().Path)
		}
	})

	t.Run("subscribe has no gap", func(t *testing.T) {
		r, _ := tree(t, supervisor.Spec{Build: children(supervisor.Child{ID: "x", Start: idle})})
		late := suptest.NewRecorder()
		past, cancel := r.Subscribe(late)
		require.NotEmpty(t, past)
		require.NoError(t, r.TerminateChild(ctx, "x"))
		e := until[supervisor.ChildStopped](t, late, 1, nil)
		require.Equal(t, past[len(past)-1].Head().Seq+1, e.Seq)
		cancel()
		require.NoError(t, r.Stop(ctx))
		require.Len(t, late.Events(), 1)
	})

	t.Run("flush is bounded", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			gate := make(chan struct{})
			s, err := supervisor.New(
				supervisor.Spec{Observers: []supervisor.Observer{supervisor.ObserverFunc(func(supervisor.Event) {
					<-gate
				})}})
			require.NoError(t, err)
			c, cancel := context.WithCancel(ctx)
			cancel()
			begin := time.Now()
			require.ErrorIs(t, s.Serve(c), context.Canceled)
			require.Equal(t, time.Second, time.Since(begin))
			close(gate)
		})
	})
}
