package supervisor_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
)

// A supervisor that a service runs itself is in the tree below that service, under its name.
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

// A supervisor that a child runs with Start belongs to the child's incarnation. The child has not
// ended before the supervisor has, and is an orphan if that takes too long. The supervisor ends
// with the child, whatever context it was given.
func TestRule60AChildEndsWithTheSupervisorsThatItRuns(t *testing.T) {
	for name, detached := range map[string]bool{"with the child's context": false,
		"with a context that outlives the child": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const late = 500 * time.Millisecond
				var ended time.Time
				inner := supervisor.Children(supervisor.Child{ID: "x",
					Start: supervisor.Start(func(ctx context.Context) error {
						<-ctx.Done()
						<-time.After(late)
						ended = time.Now()
						return nil
					})})

				s, err := supervisor.New(supervisor.Spec{Name: "r",
					Build: supervisor.Children(supervisor.Child{ID: "a",
						Start: supervisor.Start(func(ctx context.Context) error {
							in, err := supervisor.New(supervisor.Spec{Name: "in", Build: inner})
							if err != nil {
								return err
							}

							of := ctx
							if detached {
								of = context.WithoutCancel(ctx)
							}
							if _, err := in.Start(of); err != nil {
								return err
							}

							<-ctx.Done()

							return ctx.Err()
						})})})
				require.NoError(t, err)
				r, err := s.Start(t.Context())
				require.NoError(t, err)
				synctest.Wait()
				began := time.Now()
				require.NoError(t, r.Stop(t.Context()))
				require.Equal(t, late, time.Since(began))
				require.Equal(t, began.Add(late), ended)
				synctest.Wait() // the last goroutine may still be on its way out
				n, stacks := r.Goroutines()
				require.Zero(t, n, stacks)
			})
		})
	}
}

// If such a supervisor does not end in time, the child that runs it is the orphan.
func TestRule60AnInnerSupervisorThatOverrunsIsAnOrphan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		inner := supervisor.Children(supervisor.Child{ID: "x", Shutdown: supervisor.Infinity,
			Start: supervisor.Start(func(ctx context.Context) error {
				<-release
				return nil
			})})

		s, err := supervisor.New(supervisor.Spec{Name: "r",
			Build: supervisor.Children(supervisor.Child{ID: "a", Restart: supervisor.Temporary,
				Orphan: supervisor.Abandon, Shutdown: time.Second,
				Start: supervisor.Start(func(ctx context.Context) error {
					in, err := supervisor.New(supervisor.Spec{Name: "in", Build: inner})
					if err != nil {
						return err
					}
					_, err = in.Start(ctx)
					return err // the child's main goroutine ends at once; the supervisor continues
				})})})
		require.NoError(t, err)
		r, err := s.Start(t.Context())
		require.NoError(t, err)
		synctest.Wait()
		require.Len(t, r.Orphans(), 0)
		<-time.After(900 * time.Millisecond)
		require.Len(t, r.Orphans(), 0)
		<-time.After(200 * time.Millisecond)
		synctest.Wait()
		orphans := r.Orphans()
		require.NotEmpty(t, orphans)
		require.Equal(t, "a", orphans[0].Path)
		close(release)
		synctest.Wait()
		require.NoError(t, r.Stop(t.Context()))
	})
}

// A child that has ended cannot start a supervisor.
func TestAnEndedChildStartsNoSupervisor(t *testing.T) {
	ctxs := make(chan context.Context, 1)
	s, err := supervisor.New(supervisor.Spec{Name: "r",
		Build: supervisor.Children(supervisor.Child{ID: "a", Restart: supervisor.Temporary,
			Start: supervisor.Start(func(ctx context.Context) error { ctxs <- ctx; return nil })})})
	require.NoError(t, err)
	r, err := s.Start(t.Context())
	require.NoError(t, err)
	ctx := <-ctxs
	for len(r.Tree().Children) > 0 {
		require.NoError(t, r.Flush(t.Context()))
	}

	in, err := supervisor.New(supervisor.Spec{Name: "in"})
	require.NoError(t, err)
	_, err = in.Start(ctx)
	require.ErrorIs(t, err, supervisor.ErrNotRunning)
	require.NoError(t, r.Stop(t.Context()))
}
