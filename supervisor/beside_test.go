package supervisor_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
)

// beside starts the supervisor "top" with the children "slow", which takes a second to stop, and
// "sub", the supervisor of p.
func beside(t *testing.T, p *probe) (r *supervisor.Run, top *supervisor.Supervisor) {
	t.Helper()
	slow := supervisor.Start(func(ctx context.Context) error {
		<-ctx.Done()
		<-time.After(time.Second)
		return ctx.Err()
	})

	top, err := supervisor.New(supervisor.Spec{Intensity: supervisor.Intensity{Period: time.Hour}, Build: children(
		supervisor.Child{ID: "slow", Start: slow}, nested("sub", 0, supervisor.Spec{Build: children(p.child(0))}),
	)})
	require.NoError(t, err)
	r, _ = tree(t, supervisor.Spec{
		Build: children(supervisor.Child{ID: "top", Start: func(context.Context) (supervisor.Service, error) {
			return top, nil
		}})})
	<-p.starts

	return r, top
}

// answer runs f in the probe's goroutine and returns its error.
func answer(p *probe, f func(context.Context) error) error {
	got := make(chan error, 1)
	p.do(func(ctx context.Context) error {
		got <- f(ctx)
		return p.serve(ctx)
	})
	return <-got
}

// OTP rules 23, 24, 26 and 44: a restart that a child requests of a supervisor above it is
// management.
func TestRule44_RecycleAndReviveFromBelow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe("p")
		r, top := beside(t, p)
		recycle := func(ctx context.Context) error { return supervisor.Recycle(ctx, top, "slow") }
		revive := func(ctx context.Context) error { return supervisor.Revive(ctx, top, "slow") }

		before := len(steps(r))
		require.NoError(t, answer(p, recycle))
		require.NoError(t, answer(p, revive), "it runs already")
		require.Equal(t, []string{"-top/slow", "+top/slow"}, steps(r)[before:])

		for _, f := range []func(context.Context) error{recycle, revive} {
			require.NoError(t, top.TerminateChild(ctx, "slow"))
			require.NoError(t, answer(p, f))
			require.Equal(t, supervisor.Running, state(t, top, "slow"))
		}

		require.Zero(t, top.Tree().InWindow)

		for _, f := range []func(context.Context, *supervisor.Supervisor, string) error{supervisor.Recycle,
			supervisor.Revive} {
			require.NoError(t, f(ctx, top, "slow"), "who is not below it may call too")
			require.ErrorIs(t, answer(p, func(ctx context.Context) error {
				return f(ctx, top, "none")
			}), supervisor.ErrNotFound)
			require.ErrorIs(t, f(ctx, &supervisor.Supervisor{}, "slow"), supervisor.ErrNotRunning)
		}
	})
}

// A child between two attempts to restart it needs no help. A start that fails is reported to the
// caller, whatever its error is.
func TestRule26_ReviveOfAChildThatDoesNotStart(t *testing.T) {
	bad := newProbe("bad")
	bad.before = func(n int) error {
		if n > 1 {
			return fmt.Errorf("start %d: another supervisor %w", n, supervisor.ErrRunning)
		}
		return nil
	}
	child := bad.child(0)
	child.Backoff = supervisor.Backoff{Min: time.Hour, Max: time.Hour}
	s, err := supervisor.New(supervisor.Spec{Intensity: many(9), Build: children(child)})
	require.NoError(t, err)
	r, err := s.Start(ctx)
	require.NoError(t, err)
	endNow(t, r, bad, errCrash)
	require.NoError(t, supervisor.Revive(ctx, s, "bad"))
	require.Equal(t, supervisor.Restarting, state(t, r, "bad"))
	require.NoError(t, r.TerminateChild(ctx, "bad"))
	require.ErrorIs(t, supervisor.Revive(ctx, s, "bad"), supervisor.ErrRunning)
	require.Equal(t, supervisor.NotRunning, state(t, r, "bad"))
	require.NoError(t, r.Stop(ctx))
}

// When the supervisor waits for the caller's end, the call ends, so that neither waits for the
// other. In its next life the caller finds the state that the last one left, and revives the child.
func TestRecycleEndsWithItsCaller(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *supervisor.Run, *supervisor.Supervisor){
		"killed": func(t *testing.T, r *supervisor.Run, _ *supervisor.Supervisor) {
			require.NoError(t, r.Kill("top/sub/p", errReason))
		},
		"stopped with all that is below the same supervisor": func(t *testing.T, _ *supervisor.Run,
			top *supervisor.Supervisor) {
			require.NoError(t, top.TerminateChild(ctx, "sub"))
			require.NoError(t, second(top.RestartChild(ctx, "sub")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProbe("p")
				r, top := beside(t, p)
				got := make(chan error, 2)
				p.do(func(ctx context.Context) error {
					err := supervisor.Recycle(ctx, top, "slow")
					got <- err
					got <- context.Cause(ctx)
					return err
				})
				synctest.Wait() // "slow" is being stopped
				began := time.Now()
				end(t, r, top)
				err := <-got
				require.Error(t, err)
				require.Equal(t, <-got, err)
				require.LessOrEqual(t, time.Since(began), time.Second,
					"the time that the slow one takes, and no timeout")
				<-p.starts
				require.NoError(t, answer(p, func(ctx context.Context) error {
					return supervisor.Revive(ctx, top, "slow")
				}))
				require.Equal(t, supervisor.Running, state(t, top, "slow"))
			})
		})
	}
}

// Where the supervisor waits for the caller and the caller's context would not end, the call is
// refused.
func TestRecycle_WouldDeadlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe("p")
		_, top := beside(t, p)
		require.ErrorIs(t, answer(p, func(ctx context.Context) error {
			return supervisor.Recycle(ctx, top, "sub")
		}), supervisor.ErrWouldDeadlock, "it is below that")

		got := make(chan error, 3)
		revive := func(ctx context.Context) { got <- supervisor.Revive(ctx, top, "slow") }
		_, err := top.StartChild(ctx,
			supervisor.Child{ID: "early", Ack: supervisor.AckReady,
				Start: func(ctx context.Context) (supervisor.Service, error) {
					revive(ctx)
					return supervisor.ServiceFunc(func(ctx context.Context) error {
						revive(ctx)
						supervisor.Ready(ctx)
						revive(ctx)
						<-ctx.Done()
						return ctx.Err()
					}), nil
				}})
		require.NoError(t, err)
		require.ErrorIs(t, <-got, supervisor.ErrWouldDeadlock, "in its start")
		require.ErrorIs(t, <-got, supervisor.ErrWouldDeadlock, "before it is ready")
		require.NoError(t, <-got)
	})
}
