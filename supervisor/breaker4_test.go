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

// A supervisor that a child begins with Start belongs to the child's incarnation: the child has not
// ended before it has, and is an orphan if it takes too long. It ends with the child whatever
// context it was given.
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
				n, stacks := r.Goroutines()
				require.Zero(t, n, stacks)
			})
		})
	}
}

// One that does not end in time is reported where it is: the child is the orphan.
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
					return err // the child's own part ends at once; what it began goes on
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

// Who has ended runs no supervisor any more.
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

// What Build keeps of its context lives as long as the run does, and no longer than a Build that
// failed.
func TestBuildsContextLivesAsLongAsWhatItBuilt(t *testing.T) {
	for name, failure := range map[string]error{"Build returns children": nil, "Build fails": errors.New("no")} {
		t.Run(name, func(t *testing.T) {
			var kept context.Context
			s, err := supervisor.New(supervisor.Spec{Name: "r",
				Build: func(ctx context.Context) ([]supervisor.Child, error) {
					kept = ctx
					return nil, failure
				}})
			require.NoError(t, err)
			r, err := s.Start(t.Context())
			require.ErrorIs(t, err, failure)

			if failure == nil {
				require.NoError(t, kept.Err())
				require.NoError(t, r.Stop(t.Context()))
			}

			require.Error(t, kept.Err())
		})
	}
}
