package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
)

// sup_stop_timeout, child_unlink: a child that ignores its context cannot hang its supervisor
func TestRule56_Rule57_Rule60_StopTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := newHang("h"), newProbe("p")
		r, w := tree(t, supervisor.Spec{Build: children(p.child(0), h.child(0, supervisor.Abandon))})
		<-h.starts
		begin := time.Now()
		err := r.TerminateChild(ctx, "h")
		require.ErrorIs(t, err, supervisor.ErrOrphan)
		require.Equal(t, time.Second, time.Since(begin))
		e := until[supervisor.ChildOrphaned](t, w, 1, nil)
		require.Equal(t, 1, e.Orphan.Goroutines)
		require.Contains(t, e.Orphan.Stack, "main_test.go")
		require.True(t, until[supervisor.ShutdownError](t, w, 1, nil).Exit.Orphaned)
		require.Equal(t, supervisor.NotRunning, state(t, r, "h"))
		require.Len(t, r.Orphans(), 1)
		require.Equal(t, 1, p.began())
		close(h.release)
		late := until[supervisor.OrphanEnded](t, w, 1, nil)
		require.Equal(t, e.Incarnation, late.Incarnation)
		require.Empty(t, r.Orphans())
	})
}

// sup_stop_brutal_kill
func TestRule56_Rule60_Brutal(t *testing.T) {
	h := newHang("h")
	c := h.child(0, supervisor.Escalate)
	c.Shutdown = supervisor.Brutal
	r, w := tree(t, supervisor.Spec{Build: children(c)})
	<-h.starts
	require.NoError(t, r.TerminateChild(ctx, "h")) // at once
	o := r.Orphans()
	require.Len(t, o, 1)
	require.True(t, o[0].Brutal)
	require.Contains(t, o[0].Stack, "main_test.go")
	_, err := r.RestartChild(ctx, "h")
	require.NoError(t, err)
	<-h.starts
	require.NoError(t, r.Kill("h", errCrash)) // as after an end of its own, not waited for either
	require.True(t, until(t, w, 1, exitOf("h")).Exit.Killed)
	<-h.starts
	require.NoError(t, r.Stop(ctx))
	require.Zero(t, counted[supervisor.ChildOrphaned](t, r, w))
	require.Zero(t, counted[supervisor.ShutdownError](t, r, w))
	require.Len(t, r.Orphans(), 3)
	close(h.release)
}

// sup_stop_race: four ends by restart type. Each child keeps its own reason, and only ends that are
// not quiet are reported.
func TestRule58_QuietEnds(t *testing.T) {
	for _, restart := range []supervisor.Restart{supervisor.Permanent, supervisor.Transient, supervisor.Temporary} {
		for _, c := range []struct {
			name  string
			err   func(context.Context) error
			quiet bool
			class supervisor.Class
		}{
			{"context's error", func(ctx context.Context) error { return ctx.Err() }, true, supervisor.Shutdown},
			{"wrapped cause", func(ctx context.Context) error {
				return fmt.Errorf("bye: %w", context.Cause(ctx))
			}, true, supervisor.Shutdown},
			{"shutdown", func(context.Context) error { return supervisor.ErrShutdown }, true, supervisor.Shutdown},
			{"nil, as services in Go obey", func(context.Context) error { return nil }, true, supervisor.Normal},
			{"crash", func(context.Context) error { return errCrash }, false, supervisor.Abnormal},
			{"panic", func(context.Context) error { panic(errCrash) }, false, supervisor.Abnormal},
		} {
			t.Run(restart.String()+"/"+c.name, func(t *testing.T) {
				p, first := newProbe("p"), newProbe("first")
				r, _ := tree(t, supervisor.Spec{Build: children(first.child(0), p.child(restart))})
				<-p.starts
				p.do(func(ctx context.Context) error { <-ctx.Done(); return c.err(ctx) })
				require.NoError(t, r.Stop(ctx))
				reported := false

				for _, e := range r.Events() {
					switch e := e.(type) {
					case supervisor.ShutdownError:
						reported = true
						require.Equal(t, "p", e.Path)
						require.ErrorIs(t, e.Exit.Err, errCrash)
					case supervisor.ChildStopped:
						if e.Path == "p" {
							require.Equal(t, c.class, e.Exit.Class)
							require.True(t, e.Exit.Stopped)
						}
					}
				}

				require.Equal(t, !c.quiet, reported)
				require.Equal(t, []string{"+first", "+p", "-p", "-first"}, steps(r))
			})
		}
	}
}

// A child that ended by itself just before it was told: the end "normal" is reported for a
// permanent child only.
func TestRule58_Rule59_EndedBeforeItWasTold(t *testing.T) {
	for restart, reported := range map[supervisor.Restart]bool{supervisor.Permanent: true,
		supervisor.Transient: false} {
		p, d := newProbe("p"), newProbe("d")
		r, w := tree(t, supervisor.Spec{Build: children(p.child(restart))})
		info, err := r.WhichChild("p")
		require.NoError(t, err)
		c, cancel := context.WithCancel(ctx)
		stopped := make(chan error, 1)
		d.before = func(int) error {
			<-p.starts
			p.end(nil)
			<-supervisor.Monitor(info.Ref)
			go func() { stopped <- r.Stop(c) }()
			return nil
		}

		blocker := supervisor.Child{ID: "d", Start: func(ctx context.Context) (supervisor.Service, error) {
			_ = d.before(1)
			<-ctx.Done() // until the stop
			return nil, ctx.Err()
		}}
		_, err = r.StartChild(ctx, blocker)
		require.Error(t, err)
		require.NoError(t, <-stopped)
		cancel()
		require.Equal(t, reported, counted[supervisor.ShutdownError](t, r, w) == 1)
		require.Zero(t, counted[supervisor.RestartScheduled](t, r, w))
	}
}

// A brutal stop expects Killed, even of a child that was killed just before the stop. Any other
// stop does not expect it.
func TestRule58_KilledBeforeABrutalStop(t *testing.T) {
	for shutdown, reported := range map[time.Duration]int{supervisor.Brutal: 0, supervisor.Infinity: 1} {
		p, first, d := newProbe("p"), newProbe("first"), newProbe("d")
		c := p.child(supervisor.Permanent)
		c.Shutdown = shutdown
		r, w := tree(t, supervisor.Spec{Strategy: supervisor.OneForAll, Intensity: many(1),
			Build: children(first.child(0), c)})

		// Both end while the supervisor is busy. The first is the reason of the group restart,
		// which finds p dead.
		d.before = func(n int) error {
			if n > 1 {
				return nil
			}

			<-first.starts
			endNow(t, r, first, errCrash)
			info, err := r.WhichChild("p")
			require.NoError(t, err)
			<-p.starts
			require.NoError(t, r.Kill("p", nil))
			<-supervisor.Monitor(info.Ref)

			return nil
		}
		_, err := r.StartChild(ctx, d.child(0))
		require.NoError(t, err)
		<-p.starts
		require.Equal(t, reported, counted[supervisor.ShutdownError](t, r, w))
	}
}

// A supervisor below that stops is Stopping, though its parent has not told it to.
func TestTree_IsNotSettledWhileASupervisorStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe("p")
		d, err := supervisor.NewDynamic(
			supervisor.DynamicSpec[*probe]{Start: func(ctx context.Context, p *probe) (supervisor.Service, error) {
				return p.start(ctx)
			}})
		require.NoError(t, err)
		r, _ := tree(t, supervisor.Spec{Intensity: many(9), Build: children(
			nested("sub", 0, supervisor.Spec{Build: children(p.child(0))}),
			supervisor.Child{ID: "d", Start: func(context.Context) (supervisor.Service, error) { return d, nil }},
		)})
		q := newProbe("q")
		_, err = d.StartChild(ctx, "q", q)
		require.NoError(t, err)

		for path, probe := range map[string]*probe{"sub": p, "d": q} {
			<-probe.starts
			release := make(chan struct{})
			probe.do(func(ctx context.Context) error { <-ctx.Done(); <-release; return ctx.Err() })
			require.True(t, r.Tree().Settled())
			require.NoError(t, r.Kill(path, nil))
			require.False(t, r.Tree().Settled())
			synctest.Wait()
			require.False(t, r.Tree().Settled())
			close(release)
			synctest.Wait()
			require.True(t, r.Tree().Settled())
		}
	})
}

// E 13: the parent's reason, whatever it is
func TestRule61_Rule63_ReasonOfTheStop(t *testing.T) {
	p := newProbe("p")
	s, err := supervisor.New(supervisor.Spec{Build: children(p.child(0))})
	require.NoError(t, err)
	c, cancel := context.WithCancelCause(ctx)
	r, err := s.Start(c)
	require.NoError(t, err)
	cancel(errCrash)
	require.ErrorIs(t, r.Wait(), errCrash)
	require.ErrorIs(t, r.Err(), context.Canceled)

	d, cancel2 := context.WithTimeout(ctx, 0)
	defer cancel2()

	require.ErrorIs(t, s.Serve(d), context.DeadlineExceeded)

	r, err = s.Start(ctx)
	require.NoError(t, err)
	require.NoError(t, r.Err())
	require.NoError(t, r.Stop(ctx))
	require.NoError(t, r.Err())
	require.NoError(t, r.Stop(ctx))
	<-r.Done()

	// A caller of Stop may leave; the stop continues.
	gate := make(chan struct{})
	r, _ = tree(t, supervisor.Spec{
		Build: children(supervisor.Child{ID: "slow", Start: supervisor.Start(func(ctx context.Context) error {
			<-ctx.Done()
			<-gate
			return nil
		})})})
	gone, cancel3 := context.WithCancel(ctx)
	cancel3()
	require.ErrorIs(t, r.Stop(gone), context.Canceled)
	close(gate)
	require.NoError(t, r.Wait())
}

func TestRule64_SupervisorsAreWaitedForWithoutLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := supervisor.Child{ID: "slow", Shutdown: time.Hour,
			Start: supervisor.Start(func(ctx context.Context) error {
				<-ctx.Done()
				timer := time.NewTimer(time.Hour - 1)
				<-timer.C
				return ctx.Err()
			})}

		r, _ := tree(t, supervisor.Spec{
			Build: children(nested("a", 0,
				supervisor.Spec{Build: children(nested("b", 0, supervisor.Spec{Build: children(slow)}))}))})
		begin := time.Now()
		require.NoError(t, r.Stop(ctx))
		require.Equal(t, time.Hour-1, time.Since(begin))
		require.Empty(t, r.Orphans())
	})
}

var errReason = errors.New("reason")
