package supervisor_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/thejerf/suture/v4"

	"github.com/coppice-go/coppice/supervisor"
)

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
			// the orphan is below, and the error names it
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

// The error of a stop names what went wrong and nothing else, for each kind of supervisor and each
// way to stop it.
func TestRule60_ErrorsOfAStopWithAnOrphan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		deaf := func(context.Context) (supervisor.Service, error) {
			return supervisor.ServiceFunc(func(context.Context) error { <-release; return nil }), nil
		}

		const gaveUp = "supervisor gave up: deaf did not end within its shutdown time: did not end within its " +
			"shutdown time"
		for cause, want := range map[error]string{nil: gaveUp, errCrash: "context canceled: crash; " + gaveUp,
			supervisor.ErrOrphan: "context canceled: " + supervisor.ErrOrphan.Error()} {
			s, err := supervisor.New(supervisor.Spec{Build: children(supervisor.Child{ID: "deaf", Start: deaf})})
			require.NoError(t, err)
			c, cancel := context.WithCancelCause(ctx)
			r, err := s.Start(c)
			require.NoError(t, err)
			d, err := supervisor.NewDynamic(
				supervisor.DynamicSpec[int]{Start: func(ctx context.Context, _ int) (supervisor.Service, error) {
					return deaf(ctx)
				}})
			require.NoError(t, err)
			served := make(chan error, 1)
			go func() { served <- d.Serve(c) }()
			synctest.Wait()
			_, err = d.StartChild(ctx, "deaf", 0)
			require.NoError(t, err)

			if cause != nil {
				cancel(cause)
			} else {
				require.EqualError(t, d.Stop(ctx), want)
				require.EqualError(t, r.Stop(ctx), want)
			}

			require.EqualError(t, r.Wait(), want)
			require.EqualError(t, <-served, want)
			cancel(nil)
		}

		close(release)
	})
}

// The same below an instance of a Dynamic. An orphan of a supervisor that has given up since is in
// the error of that supervisor, and not in the error of a later stop.
func TestRule60_OrphanBelowAnInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHang("h")
		d, err := supervisor.NewDynamic(supervisor.DynamicSpec[int]{Restart: supervisor.Temporary,
			Start: func(context.Context, int) (supervisor.Service, error) {
				return supervisor.New(supervisor.Spec{Build: children(h.child(0, supervisor.Escalate))})
			}})
		require.NoError(t, err)
		s, err := supervisor.New(
			supervisor.Spec{Build: children(supervisor.Child{ID: "d",
				Start: func(context.Context) (supervisor.Service, error) {
					return d, nil
				}})})
		require.NoError(t, err)
		r, err := s.Start(ctx)
		require.NoError(t, err)
		_, err = d.StartChild(ctx, "first", 0)
		require.NoError(t, err)
		require.NoError(t, r.Kill("d/first/h", nil))
		<-time.After(time.Minute)
		n, err := d.CountChildren()
		require.NoError(t, err)
		require.Equal(t, supervisor.Counts{Specs: 1}, n, "it gave up")
		require.NoError(t, r.Stop(ctx))

		r, err = s.Start(ctx)
		require.NoError(t, err)
		_, err = d.StartChild(ctx, "second", 0)
		require.NoError(t, err)
		require.ErrorContains(t, r.Stop(ctx), "d/second/h did not end")
		close(h.release)
		synctest.Wait()
	})
}

// A sentinel of suture's reaches the top even if an orphan stayed behind.
func TestExit_TerminateWithAnOrphan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := newHang("h"), newProbe("p")
		s, err := supervisor.New(
			supervisor.Spec{Build: children(nested("sub", 0,
				supervisor.Spec{Build: children(h.child(0, supervisor.Escalate), p.child(0))}))})
		require.NoError(t, err)
		r, err := s.Start(ctx)
		require.NoError(t, err)
		<-p.starts
		p.end(suture.ErrTerminateSupervisorTree)
		err = r.Wait()
		require.ErrorIs(t, err, suture.ErrTerminateSupervisorTree)
		require.ErrorIs(t, err, supervisor.ErrOrphan)
		require.Equal(t, 1, p.began())
		close(h.release)
		synctest.Wait()
	})
}
