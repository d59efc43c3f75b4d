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
	require.NoError(t, r.Kill("h", errCrash)) // as an end of its own, not waited for either
	require.True(t, until(t, w, 1, exitOf("h")).Exit.Killed)
	<-h.starts
	require.NoError(t, r.Stop(ctx))
	require.Zero(t, counted[supervisor.ChildOrphaned](t, r, w))
	require.Zero(t, counted[supervisor.ShutdownError](t, r, w))
	require.Len(t, r.Orphans(), 3)
	close(h.release)
}

// sup_stop_race: four ends by restart type; each keeps its own, and only what is not quiet is
// reported
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

// What ended by itself just before it was told: normal is reported for a permanent child only.
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

// Killed is what a brutal stop expects, also of a child that was killed by someone else just
// before; any other stop does not.
func TestRule58_KilledBeforeABrutalStop(t *testing.T) {
	for shutdown, reported := range map[time.Duration]int{supervisor.Brutal: 0, supervisor.Infinity: 1} {
		p, first, d := newProbe("p"), newProbe("first"), newProbe("d")
		c := p.child(supervisor.Permanent)
		c.Shutdown = shutdown
		r, w := tree(t, supervisor.Spec{Strategy: supervisor.OneForAll, Intensity: many(1),
			Build: children(first.child(0), c)})

		// Both end while the supervisor is busy: the first is the reason of the group restart, p is
		// met dead in it.
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

// A supervisor below that stops is on its way, though its parent has not been told.
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

func TestRule60_OrphanPolicies(t *testing.T) {
	t.Run("escalate", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, p := newHang("h"), newProbe("p")
			r, w := tree(t, supervisor.Spec{Build: children(nested("sub", 0, supervisor.Spec{
				Strategy: supervisor.OneForAll, Intensity: many(100),
				Build: children(p.child(0), h.child(0, supervisor.Escalate)),
			}))})
			<-h.starts
			<-p.starts
			begin := time.Now()
			p.end(errCrash)
			<-h.starts
			require.Equal(t, time.Second, time.Since(begin)) // the orphan is waited for once, not again in the stop
			g := until[supervisor.GaveUp](t, w, 1, nil).Err
			require.ErrorIs(t, g, supervisor.ErrOrphan)
			require.ErrorIs(t, g, supervisor.ErrShutdown)
			require.Equal(t, "sub/h", g.Offender)
			require.Equal(t, 1, r.Tree().InWindow) // one attempt above
			require.Zero(t, mustFind(t, r, "sub").InWindow)
			require.Len(t, r.Orphans(), 1)
			require.Equal(t, "sub/h", r.Orphans()[0].Path)
			close(h.release)
			until[supervisor.OrphanEnded](t, w, 1, nil)
		})
	})

	t.Run("wait", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHang("h")
			r, w := tree(t, supervisor.Spec{Build: children(h.child(0, supervisor.Wait))})
			<-h.starts
			done := make(chan error)
			go func() { done <- r.TerminateChild(ctx, "h") }()
			until[supervisor.ChildOrphaned](t, w, 1, nil)
			timer := time.NewTimer(time.Hour)
			<-timer.C
			require.Equal(t, supervisor.Stopping, mustFind(t, r, "h").State)
			close(h.release)
			require.NoError(t, <-done)
			require.Equal(t, time.Hour, until[supervisor.OrphanEnded](t, w, 1, nil).After)
		})
	})

	t.Run("abandon", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHang("h")
			r, w := tree(t, supervisor.Spec{Build: children(h.child(0, supervisor.Abandon))})
			first := <-h.starts
			require.NoError(t, r.Kill("h", errCrash))
			second := <-h.starts // beside the old one
			require.Less(t, first, second)
			e := until(t, w, 1, exitOf("h")).Exit
			require.True(t, e.Orphaned && e.Killed)
			require.ErrorIs(t, e.Err, supervisor.ErrOrphan)
			require.ErrorIs(t, e.Err, errCrash)
			close(h.release)
			until[supervisor.OrphanEnded](t, w, 1, nil)
		})
	})

	t.Run("escalate at the root's stop", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, p := newHang("h"), newProbe("p")
			r, w := tree(t, supervisor.Spec{
				Build: children(nested("sub", 0,
					supervisor.Spec{Build: children(p.child(0), h.child(0, supervisor.Escalate))}))})
			<-h.starts
			// the orphan is below, and told
			require.ErrorContains(t, r.Stop(ctx), "sub/h did not end within its shutdown time")
			require.Len(t, r.Orphans(), 1)
			require.Equal(t, "sub/h", r.Orphans()[0].Path)
			close(h.release)
			until[supervisor.OrphanEnded](t, w, 1, nil)

			h = newHang("h")
			r, _ = tree(t, supervisor.Spec{Build: children(h.child(0, supervisor.Escalate))})
			<-h.starts
			require.ErrorIs(t, r.Stop(ctx), supervisor.ErrOrphan)
			close(h.release)
			synctest.Wait()
			require.Empty(t, r.Orphans())
		})
	})

	t.Run("escalate when the child ends by itself", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			c := supervisor.Child{ID: "h", Restart: supervisor.Temporary, Shutdown: time.Second,
				Start: supervisor.Start(func(ctx context.Context) error {
					return supervisor.Go(ctx, func(context.Context) error { <-release; return nil })
				})}
			r, _ := tree(t, supervisor.Spec{Intensity: many(9), Build: children(c)})
			// a descendant that does not end makes the child an orphan
			require.ErrorIs(t, r.Wait(), supervisor.ErrOrphan)
			close(release)
			synctest.Wait()
			require.Empty(t, r.Orphans())
		})
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

	// A caller of Stop may leave; the stop goes on.
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

func TestKill(t *testing.T) {
	leaf, mate, own := newProbe("leaf"), newProbe("mate"), newProbe("own")
	r, w := tree(t, supervisor.Spec{Name: "root", Intensity: many(20), Build: children(
		own.child(0), nested("sub", 0,
			supervisor.Spec{Intensity: many(20), Build: children(leaf.child(0), mate.child(0))}),
	)})
	first := <-leaf.starts
	leaf.do(func(ctx context.Context) error { // whatever it returns
		<-ctx.Done()
		require.ErrorIs(t, context.Cause(ctx), supervisor.ErrKilled)
		require.Equal(t, first, supervisor.Incarnation(ctx))
		require.Equal(t, "sub/leaf", supervisor.Path(ctx))
		return nil
	})
	require.NoError(t, r.Kill("sub/leaf", errReason))
	e := until(t, w, 1, exitOf("sub/leaf"))
	require.Equal(t, supervisor.Abnormal, e.Exit.Class)
	require.ErrorIs(t, e.Exit.Err, supervisor.ErrKilled)
	require.ErrorIs(t, e.Exit.Err, errReason)
	<-leaf.starts

	// A supervisor: an ordered stop, with that reason.
	require.NoError(t, r.Kill("sub", errReason))
	e = until(t, w, 1, exitOf("sub"))
	require.Equal(t, supervisor.Abnormal, e.Exit.Class)
	require.ErrorIs(t, e.Exit.Err, errReason)
	<-leaf.starts
	until(t, w, 2, at("sub"))
	history := steps(r)
	require.Equal(t, []string{"-sub/mate", "-sub/leaf", "!sub", "+sub/leaf", "+sub/mate", "+sub"},
		history[len(history)-6:])
	require.ErrorIs(t, r.Kill("own/x", nil), supervisor.ErrNotFound)

	// The root itself.
	require.NoError(t, r.Kill("", nil))
	require.ErrorIs(t, r.Wait(), supervisor.ErrKilled)
	require.ErrorIs(t, r.Kill("", nil), supervisor.ErrNotRunning)
}

// Kill reaches a child whose start hangs, and its siblings meanwhile; so do snapshots.
func TestKill_DuringAHangingStart(t *testing.T) {
	p := newProbe("p")
	r, w := tree(t, supervisor.Spec{Intensity: many(9), Build: children(p.child(0))})
	<-p.starts
	begun := make(chan struct{})
	failed := make(chan error)
	go func() {
		_, err := r.StartChild(ctx, supervisor.Child{ID: "hung", StartTimeout: supervisor.Infinity,
			Start: func(ctx context.Context) (supervisor.Service, error) {
				close(begun)
				<-ctx.Done()
				return nil, ctx.Err()
			}})
		failed <- err
	}()

	<-begun
	require.Equal(t, supervisor.Starting, mustFind(t, r, "hung").State)
	require.False(t, r.Tree().Settled())
	info, err := r.WhichChild("p")
	require.NoError(t, err)
	require.NoError(t, r.Kill("p", nil))
	<-supervisor.Monitor(info.Ref) // it ends, while its supervisor waits
	require.NoError(t, r.Kill("hung", errReason))
	err = <-failed
	require.ErrorIs(t, err, supervisor.ErrKilled)
	require.ErrorIs(t, err, errReason)
	<-p.starts
	until(t, w, 2, at("p"))
}

func TestInject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := supervisor.Child{ID: "soft", Start: supervisor.Start(func(ctx context.Context) error {
			for {
				select {
				case f := <-supervisor.Faults(ctx):
					f.Do(ctx)
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		})}
		p := newProbe("hard")
		r, w := tree(t, supervisor.Spec{Build: children(c, p.child(0))})
		require.NoError(t, r.Inject(ctx, "soft", supervisor.Fault{Name: "boom", Do: func(context.Context) {
			panic("injected")
		}}))
		require.Equal(t, "boom", until[supervisor.FaultInjected](t, w, 1, nil).Fault)
		require.Equal(t, "injected", until(t, w, 1, exitOf("soft")).Exit.Panic)
		begin := time.Now()
		require.ErrorIs(t, r.Inject(ctx, "hard", supervisor.Fault{Do: func(context.Context) {}}),
			supervisor.ErrNotInjectable)
		require.Equal(t, supervisor.InjectTimeout, time.Since(begin))
		require.ErrorIs(t, r.Inject(ctx, "soft", supervisor.Fault{Name: "nothing"}), supervisor.ErrNotInjectable)
		gone, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()

		require.ErrorIs(t, r.Inject(gone, "hard", supervisor.Fault{Do: func(context.Context) {}}),
			context.DeadlineExceeded)
		// An incarnation that is ending takes nothing.
		<-p.starts
		gate := make(chan struct{})
		p.do(func(ctx context.Context) error { <-ctx.Done(); <-gate; return ctx.Err() })
		require.NoError(t, r.Kill("hard", nil))
		require.ErrorContains(t, r.Inject(ctx, "hard", supervisor.Fault{Do: func(context.Context) {}}), "it is ending")
		close(gate)
	})
}
