package supervisor_test

import (
	"context"
	"math/rand/v2"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// OTP rules 9, 13 and 62: a group starts in order, each child when the one before has acknowledged,
// and stops in reverse, each when the one after has ended. That holds too if children end at any
// moment of it, by themselves or by a stop of the whole.
func TestRule62_ARowUnderEndsAtAnyMoment(t *testing.T) {
	const size, runs = 12, 60
	for seed := range uint64(runs) {
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
		r, w := tree(t, supervisor.Spec{Strategy: supervisor.OneForAll,
			Intensity: supervisor.Intensity{Max: limit, Period: time.Hour}, Build: children(list...)})
		for range random.IntN(200) {
			runtime.Gosched()
		}
		_ = r.Stop(ctx) // the error of a run that gave up before

		<-r.Done()
		require.NoError(t, r.Flush(ctx))
		requireOrder(t, w, seed)
	}
}

// requireOrder checks that children start when those before them run, and stop when those after
// them have ended.
func requireOrder(t *testing.T, w *suptest.Recorder, seed uint64) {
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
				require.LessOrEqual(t, i, at, "seed %d: %v, while %d runs", seed, e, i)
			}
			delete(runs, at)
		}
	}

	require.Empty(t, runs, "seed %d", seed)
}
