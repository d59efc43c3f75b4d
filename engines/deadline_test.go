package engines_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/router"
	"github.com/coppice-go/coppice/supervisor"
)

// The context of a handler ends by its caller's deadline, and so do the calls that it makes.
func TestDeadlinesTravel(t *testing.T) {
	specs := []engines.Spec{willing("a", 0), willing("b", 0)}

	t.Run("to the callee of the callee", func(t *testing.T) {
		bubble(t, func(t *testing.T, dir *router.Directory, _ *supervisor.Run) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			want, _ := ctx.Deadline()

			require.NoError(t, call(ctx, dir, "a", func(ctx context.Context) error {
				return call(ctx, dir, "b", func(ctx context.Context) error {
					got, ok := ctx.Deadline()
					if !ok || !got.Equal(want) {
						return fmt.Errorf("the deadline is %v, %v; expected %v", got, ok, want)
					}
					return nil
				})
			}))
		}, specs...)
	})

	t.Run("none without one", func(t *testing.T) {
		bubble(t, func(t *testing.T, dir *router.Directory, _ *supervisor.Run) {
			require.NoError(t, call(t.Context(), dir, "a", func(ctx context.Context) error {
				if _, ok := ctx.Deadline(); ok {
					return errors.New("there is a deadline")
				}
				return nil
			}))
		}, specs...)
	})

	t.Run("and end the handler's wait", func(t *testing.T) {
		bubble(t, func(t *testing.T, dir *router.Directory, _ *supervisor.Run) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()

			begun, over := time.Now(), make(chan error, 1)
			_ = call(ctx, dir, "a", func(ctx context.Context) error { // the answer and the deadline race
				<-ctx.Done()
				over <- context.Cause(ctx)
				return nil
			})
			why := <-over
			require.ErrorIs(t, why, context.DeadlineExceeded)
			require.ErrorContains(t, why, "caller's deadline")
			require.Equal(t, time.Minute, time.Since(begun))
		}, specs...)
	})
}

// A call that waits in the mailbox for longer than its caller does is not handled.
func TestACallPastItsDeadlineIsNotHandled(t *testing.T) {
	bubble(t, func(t *testing.T, dir *router.Directory, _ *supervisor.Run) {
		release := make(chan struct{})
		busy := make(chan error, 1)
		go func() {
			busy <- call(context.Background(), dir, "a", func(context.Context) error { <-release; return nil })
		}()
		synctest.Wait()

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		handled := false
		err := call(ctx, dir, "a", func(context.Context) error { handled = true; return nil })
		require.ErrorIs(t, err, context.DeadlineExceeded)

		close(release)
		require.NoError(t, <-busy)
		require.NoError(t, call(t.Context(), dir, "a", nothing))
		require.False(t, handled)
	}, willing("a", 0))
}

// give is a call whose handler returns the error of the function.
type give struct {
	err func(context.Context) error
}

func (give) Answer(struct{}) {}

// The caller's deadline ends no engine: a handler that returns its error fails the call. Any other
// error is the engine's, and so is a time limit of the handler's own.
func TestADeadlineDoesNotEndTheEngine(t *testing.T) {
	giving := engines.Spec{Name: "a", Init: func(_ context.Context, s *engines.Server) error {
		engines.OnCall(s, func(ctx context.Context, q give, _ engines.From[struct{}]) error { return q.err(ctx) })
		return nil
	}}
	own := errors.New("own")

	for name, c := range map[string]struct {
		err  func(context.Context) error
		ends bool
	}{
		"the context's": {err: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
		"its cause, wrapped": {err: func(ctx context.Context) error {
			<-ctx.Done()
			return fmt.Errorf("reading: %w", context.Cause(ctx))
		}},
		"another": {err: func(ctx context.Context) error { <-ctx.Done(); return own }, ends: true},
		"a limit of the handler's own": {err: func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			<-ctx.Done()
			return ctx.Err()
		}, ends: true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, dir *router.Directory, _ *supervisor.Run) {
				before, err := dir.Resolve("a")
				require.NoError(t, err)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				_, err = engines.Call(ctx, engines.NewAddress(dir, "a"), give{c.err})
				require.Error(t, err)
				synctest.Wait()

				select {
				case <-before.Done():
					require.True(t, c.ends)
				default:
					require.False(t, c.ends)
				}
			}, giving)
		})
	}
}

// The context of a call lasts until the call is answered and its handler has returned. That of the
// incarnation lasts longer.
func TestTheContextOfACall(t *testing.T) {
	var kept engines.From[struct{}]
	var ofCall, own context.Context
	bubble(t, func(t *testing.T, dir *router.Directory, run *supervisor.Run) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()

		answered := make(chan error, 1)
		go func() { answered <- call(ctx, dir, "x", nothing) }()
		synctest.Wait()
		require.NoError(t, ofCall.Err(), "the call was kept")
		kept.Reply(struct{}{})
		require.NoError(t, <-answered)
		require.Error(t, ofCall.Err(), "nobody waits any more")
		kept.Reply(struct{}{})
		kept.Fail(errors.New("late"))

		require.NoError(t, own.Err())
		require.Equal(t, supervisor.Incarnation(ofCall), supervisor.Incarnation(own))
		require.NoError(t, run.TerminateChild(t.Context(), "x"))
		require.Error(t, own.Err())
		require.Equal(t, t.Context(), engines.Lifetime(t.Context()), "it belongs to no engine")
	}, engines.Spec{Name: "x", Init: func(_ context.Context, s *engines.Server) error {
		engines.OnCall(s, func(ctx context.Context, _ ask, from engines.From[struct{}]) error {
			kept, ofCall, own = from, ctx, engines.Lifetime(ctx)
			return nil
		})
		return nil
	}})
}
