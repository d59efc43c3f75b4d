package supervisor_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

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
	require.Equal(t, first, list[1].Ref.Incarnation()) // running children are kept
	// new children are not started
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

	r, err = s.Start(ctx) // later runs use the new specification
	require.NoError(t, err)
	n, err := r.CountChildren()
	require.NoError(t, err)
	require.Equal(t, 3, n.Specs)
	require.NoError(t, r.Stop(ctx))
}

// A running child is kept under its new specification, with the new shutdown time and orphan
// policy.
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

// After a reload, a running child can be restarted and one that does not run can be started,
// temporary or not.
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
	require.NoError(t, d.Reload(spec)) // once more: running instances can still be restarted
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
	require.NoError(t, r.Kill("d", nil)) // later runs use it too
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

// An instance between two attempts is restarted under the new template. It is forgotten if the new
// template is temporary.
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

// A Stop during the Build of a Reload is a clean stop.
func TestStopDuringReload(t *testing.T) {
	var built atomic.Int32
	under := make(chan struct{})
	spec := supervisor.Spec{Name: "r", Build: func(ctx context.Context) ([]supervisor.Child, error) {
		if built.Add(1) > 1 {
			close(under)
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return []supervisor.Child{{ID: "a", Start: idle}}, nil
	}}
	r, w := tree(t, spec)
	reloaded := make(chan error)
	go func() { reloaded <- r.Reload(ctx, spec) }()
	<-under
	require.NoError(t, r.Stop(ctx))
	require.NoError(t, r.Err())
	require.ErrorIs(t, <-reloaded, supervisor.ErrNotRunning)
	require.NoError(t, r.Flush(ctx))
	require.Zero(t, suptest.Count[supervisor.Reloaded](w, nil))
}

// A Reload also applies to running children (OTP rule 81). An orphan that the old policy waited for
// is given up when the new policy is not Wait, so that it delays no stop.
func TestReloadGivesUpOrphan(t *testing.T) {
	for _, policy := range []supervisor.OrphanPolicy{supervisor.Abandon, supervisor.Escalate} {
		synctest.Test(t, func(t *testing.T) {
			h := newHang("h")
			spec := supervisor.Spec{Intensity: many(9), Build: children(h.child(supervisor.Temporary, supervisor.Wait))}
			r, w := tree(t, spec)
			<-h.starts
			require.NoError(t, r.Kill("h", nil))
			until[supervisor.ChildOrphaned](t, w, 1, nil)
			spec.Build = children(h.child(supervisor.Temporary, policy))
			require.NoError(t, r.Reload(ctx, spec))
			e := until(t, w, 1, exitOf("h"))
			require.True(t, e.Exit.Orphaned)
			require.Len(t, r.Orphans(), 1, "it is known all the same")

			if policy == supervisor.Escalate {
				require.ErrorIs(t, r.Wait(), supervisor.ErrOrphan)
			} else {
				require.NoError(t, r.Stop(ctx))
			}

			close(h.release)
			synctest.Wait()
			require.Empty(t, r.Orphans())
		})
	}
	synctest.Test(t, func(t *testing.T) {
		h := newHang("h")
		spec := supervisor.DynamicSpec[int]{Name: "d", Restart: supervisor.Temporary, Shutdown: 1,
			Orphan: supervisor.Wait, Start: func(ctx context.Context, _ int) (supervisor.Service, error) {
				return h.child(0, 0).Start(ctx)
			}}
		d, err := supervisor.NewDynamic(spec)
		require.NoError(t, err)
		r, w := tree(t, supervisor.Spec{
			Build: children(supervisor.Child{ID: "d", Start: func(context.Context) (supervisor.Service, error) {
				return d, nil
			}})})
		_, err = d.StartChild(ctx, "x", 1)
		require.NoError(t, err)
		require.NoError(t, d.Kill("x", nil))
		until[supervisor.ChildOrphaned](t, w, 1, nil)
		spec.Orphan = supervisor.Abandon
		require.NoError(t, d.Reload(spec))
		_, err = d.WhichChild("x")
		require.ErrorIs(t, err, supervisor.ErrNotFound)
		require.NoError(t, r.Stop(ctx))
		close(h.release)
		synctest.Wait()
	})
}
