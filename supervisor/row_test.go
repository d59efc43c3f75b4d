package supervisor_test

import (
	"context"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// OTP rules 9, 13 and 62: a group starts in order, each child when the one before has acknowledged,
// and stops in reverse, each when the one after has ended. That holds too if children end at any
// moment of it, by themselves or by a stop of the whole, and the stop itself ends.
func TestRule62_ARowUnderEndsAtAnyMoment(t *testing.T) {
	const size, runs = 12, 60
	strategies := []supervisor.Strategy{supervisor.OneForAll, supervisor.RestForOne, supervisor.OneForOne}
	for seed := range uint64(runs * len(strategies)) {
		strategy := strategies[seed/runs]
		random := rand.New(rand.NewPCG(seed, 62))
		var list []supervisor.Child

		for i := range size {
			ends, yields := random.IntN(6) == 0, random.IntN(20)
			ack := supervisor.Ack(supervisor.AckStart)
			if random.IntN(3) == 0 {
				ack = supervisor.AckReady
			}
			serve := func(ctx context.Context) error {
				supervisor.Ready(ctx)
				for range yields {
					runtime.Gosched()
				}
				if ends {
					return errCrash
				}
				<-ctx.Done()
				return ctx.Err()
			}
			c := supervisor.Child{ID: strconv.Itoa(i), Ack: ack, Start: supervisor.Start(serve)}
			if random.IntN(8) == 0 {
				c.Shutdown = supervisor.Brutal
			}
			list = append(list, c)
		}

		limit := random.IntN(30)
		r, w := tree(t, supervisor.Spec{Strategy: strategy,
			Intensity: supervisor.Intensity{Max: limit, Period: time.Hour}, Build: children(list...)})
		for range random.IntN(200) {
			runtime.Gosched()
		}
		_ = r.Stop(ctx) // the error of a run that gave up before

		<-r.Done()
		require.NoError(t, r.Flush(ctx))
		requireOrder(t, w, strategy, seed)
	}
}

// OTP rule 62: a run is told to stop while a child restarts, which acknowledges its start
// nevertheless and ends at once. The stop of the others goes past it.
func TestRule62_AStopGoesPastAChildThatEndedAsItStarted(t *testing.T) {
	for _, ack := range []supervisor.Ack{supervisor.AckStart, supervisor.AckReady} {
		for _, yields := range []int{0, 1, 2, 3, 5, 8, 13} {
			suptest.Run(t, supervisor.Spec{
				Intensity: supervisor.Intensity{Max: 1, Period: time.Hour},
				Build: children(
					supervisor.Child{ID: "before", Start: supervisor.Start(lives)},
					supervisor.Child{ID: "a", Ack: ack, Start: restartsLate(yields)},
					supervisor.Child{ID: "behind", Start: supervisor.Start(lives)},
				),
			}, func(t *testing.T, run *supervisor.Run, w *suptest.Recorder) {
				require.NoError(t, run.Kill("a", errCrash))
				synctest.Wait() // it starts again, and waits
				require.NoError(t, run.Stop(ctx))
				require.NoError(t, run.Flush(ctx))
				require.Equal(t, []string{"-behind", "-a", "-before"}, steps(w)[len(steps(w))-3:])
			})
		}
	}
}

// restartsLate returns a Start that at a restart waits until it is told to end, and then
// acknowledges.
func restartsLate(yields int) supervisor.StartFunc {
	var again atomic.Bool
	return func(ctx context.Context) (supervisor.Service, error) {
		if again.Swap(true) {
			<-ctx.Done()
		}
		return supervisor.ServiceFunc(func(ctx context.Context) error {
			supervisor.Ready(ctx)
			<-ctx.Done()
			for range yields {
				runtime.Gosched()
			}
			return ctx.Err()
		}), nil
	}
}

func lives(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// requireOrder checks that children of a group start when those before them run, and stop when
// those after them have ended. With OneForOne, whose children restart between others, it checks
// that one starts at a time and that what runs has started.
func requireOrder(t *testing.T, w *suptest.Recorder, strategy supervisor.Strategy, seed uint64) {
	t.Helper()
	runs, starting := map[int]bool{}, -1

	for _, e := range w.Events() {
		at, err := strconv.Atoi(e.Head().Path)
		if err != nil {
			continue // of the supervisor
		}

		switch e.(type) {
		case supervisor.ChildStarting:
			require.Equal(t, -1, starting, "seed %d: %v, while another starts", seed, e)
			starting = at
			for i := range runs {
				if strategy == supervisor.OneForOne {
					break
				}
				require.Less(t, i, at, "seed %d: %v, while %d runs", seed, e, i)
			}
		case supervisor.ChildStarted:
			require.Equal(t, at, starting, "seed %d: %v", seed, e)
			starting, runs[at] = -1, true
		case supervisor.ChildStartFailed:
			require.Equal(t, at, starting, "seed %d: %v", seed, e)
			starting = -1
		case supervisor.ChildExited:
			require.True(t, runs[at], "seed %d: %v", seed, e)
			delete(runs, at)
		case supervisor.ChildStopped:
			require.True(t, runs[at], "seed %d: %v", seed, e)
			for i := range runs {
				if strategy == supervisor.OneForOne {
					break // a stop for a restart and one of the whole look alike
				}
				require.LessOrEqual(t, i, at, "seed %d: %v, while %d runs", seed, e, i)
			}
			delete(runs, at)
		}
	}

	require.Empty(t, runs, "seed %d", seed)
}
