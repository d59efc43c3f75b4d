package engines_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/router"
	"github.com/coppice-go/coppice/supervisor"
)

// number is a call whose reply the engine keeps until it is released.
type number int

func (number) Answer(int) {}

// The limit of a call ends the wait exactly then, also when the slot had a longer limit before. A
// late reply reaches no later call, and a call whose limit is over is not handled.
func TestTheLimitOfACall(t *testing.T) {
	kept := make(chan engines.From[int], 10)
	keeper := engines.Spec{Name: "keeper", Init: func(_ context.Context, s *engines.Server) error {
		engines.OnCall(s, func(_ context.Context, n number, from engines.From[int]) error {
			if n < 0 {
				kept <- from
				return nil
			}
			from.Reply(int(n))
			return nil
		})
		engines.OnCast(s, func(ctx context.Context, m tell) error { m.do(ctx); return nil })
		return nil
	}}

	bubble(t, func(t *testing.T, dir *router.Directory, _ *supervisor.Run) {
		to := engines.NewAddress(dir, "keeper")
		callFor := func(d time.Duration, n number) (int, time.Duration, error) {
			begun := time.Now()
			got, err := engines.CallFor(context.Background(), d, to, n)
			return got, time.Since(begun), err
		}

		got, _, err := callFor(time.Hour, 1)
		require.NoError(t, err)
		require.Equal(t, 1, got)

		for _, d := range []time.Duration{time.Minute, time.Second, 2 * time.Minute} {
			_, took, err := callFor(d, -1)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, "call to keeper: no answer within "+d.String())
			require.Equal(t, d, took)

			late := <-kept
			late.Reply(99)
			got, _, err = callFor(d, 7)
			require.NoError(t, err)
			require.Equal(t, 7, got, "not the late reply")
			late.Reply(99)
		}

		release := make(chan struct{})
		require.NoError(t, engines.Cast(t.Context(), to, tell{func(context.Context) { <-release }}))
		_, _, err = callFor(time.Second, -1)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		close(release)
		synctest.Wait()
		require.Empty(t, kept, "nobody waited any more")

		_, err = engines.CallFor(t.Context(), 0, to, number(1))
		require.ErrorIs(t, err, supervisor.ErrSpec)
	}, keeper)
}

// A call with a limit learns at once that its callee has ended, and waits for the next incarnation
// if it is patient, within its limit.
func TestALimitedCallAndTheEndOfItsCallee(t *testing.T) {
	bubble(t, func(t *testing.T, dir *router.Directory, run *supervisor.Run) {
		to := engines.NewAddress(dir, "a")
		entered, ended := make(chan struct{}), make(chan error, 1)
		go func() {
			_, err := engines.CallFor(context.Background(), time.Hour, to, ask{func(ctx context.Context) error {
				close(entered)
				<-ctx.Done()
				return nil
			}})
			ended <- err
		}()

		<-entered
		require.NoError(t, run.TerminateChild(t.Context(), "a"))
		<-ended // the reply of the handler, or its end

		_, err := engines.CallFor(t.Context(), time.Minute, to.With(engines.AwaitNext), ask{nothing})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = run.RestartChild(t.Context(), "a")
		require.NoError(t, err)
		_, err = engines.CallFor(t.Context(), time.Minute, to, ask{nothing})
		require.NoError(t, err)
	}, willing("a", 0))
}

// I5: an Address keeps a mailbox only as long as the directory has it. After the death of the
// router nobody is reached by an old table, although the engines still run.
func TestAnAddressForgetsARetiredMailbox(t *testing.T) {
	bubble(t, func(t *testing.T, dir *router.Directory, run *supervisor.Run) {
		to := engines.NewAddress(dir, "a")
		cast := func() error {
			return engines.Cast(t.Context(), to, tell{func(context.Context) {}})
		}
		require.NoError(t, cast())
		require.NoError(t, cast())
		before, err := dir.Resolve("a")
		require.NoError(t, err)

		require.NoError(t, run.TerminateChild(t.Context(), router.Name))
		require.ErrorIs(t, cast(), router.ErrRouterDown)
		_, err = run.RestartChild(t.Context(), router.Name)
		require.NoError(t, err)
		require.ErrorIs(t, cast(), engines.ErrDown, "the new table does not have it")

		select {
		case <-before.Done():
			t.Fatal("the engine has ended")
		default:
		}
	}, willing("a", 0))
}

// Messages cost no allocation beyond the boxes of their values.
func TestAllocationsOfMessages(t *testing.T) {
	bubble(t, func(t *testing.T, dir *router.Directory, _ *supervisor.Run) {
		to := engines.NewAddress(dir, "a")
		var m any = tell{func(context.Context) {}}
		var q engines.Query[struct{}] = ask{nothing}
		casts := testing.AllocsPerRun(1000, func() { _ = engines.Cast(context.Background(), to, m) })
		require.LessOrEqual(t, casts, 0.0, "a cast")
		calls := testing.AllocsPerRun(1000, func() {
			_, _ = engines.CallFor(context.Background(), time.Minute, to, q)
		})
		require.LessOrEqual(t, calls, 0.0, "a call with a limit")

		for _, c := range []struct {
			of   string
			by   int
			send func() error
		}{
			{"8 senders", 8, func() error { return engines.Cast(context.Background(), to, m) }},
			{"64 callers", 64, func() error {
				_, err := engines.CallFor(context.Background(), time.Minute, to, q)
				return err
			}},
		} {
			const each = 200
			send := func() {
				var all sync.WaitGroup
				for range c.by {
					all.Go(func() {
						for range each {
							require.NoError(t, c.send())
						}
					})
				}
				all.Wait()
			}
			got := testing.AllocsPerRun(3, send) / float64(c.by*each)
			require.Less(t, got, 0.2, "%s: their goroutines, and the slots of calls at the same time", c.of)
		}
	}, willing("a", 0))
}
