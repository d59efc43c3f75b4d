package supervisor_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// storm chooses what happens to a tree, by a seed. It is not safe for concurrent use.
type storm struct{ *rand.Rand }

func newStorm(seed, stream uint64) storm { return storm{rand.New(rand.NewPCG(seed, stream))} }

func (s storm) oneIn(n int) bool { return s.IntN(n) == 0 }

// yields lets others run for a while, a random one.
func (s storm) yields() {
	for range s.IntN(30) {
		runtime.Gosched()
	}
}

// child returns a child that starts and ends in one of all ways, and differently in each life.
func (s storm) child(id string, depth int) supervisor.Child {
	c := supervisor.Child{ID: id, Restart: supervisor.Restart(s.IntN(3)), Start: s.start()}
	if depth > 0 && s.oneIn(4) {
		c.Start = supervisor.Nested(s.spec(depth - 1))
		return c
	}
	if s.oneIn(3) {
		c.Ack = supervisor.AckReady
	}
	if s.oneIn(6) {
		c.Shutdown = supervisor.Brutal
	}
	return c
}

func (s storm) spec(depth int) supervisor.Spec {
	var list []supervisor.Child
	for i := range 2 + s.IntN(6) {
		list = append(list, s.child(strconv.Itoa(i), depth))
	}
	return supervisor.Spec{
		Strategy:  supervisor.Strategy(s.IntN(3)),
		Intensity: supervisor.Intensity{Max: s.IntN(200), Period: time.Hour},
		Build:     children(list...),
	}
}

// start returns a StartFunc whose lives differ.
func (s storm) start() supervisor.StartFunc {
	var mu sync.Mutex
	own := storm{rand.New(rand.NewPCG(s.Uint64(), s.Uint64()))}

	return func(ctx context.Context) (supervisor.Service, error) {
		mu.Lock()
		defer mu.Unlock()
		own.yields()

		switch own.IntN(12) {
		case 0:
			return nil, errCrash
		case 1:
			return nil, supervisor.ErrIgnore
		case 2:
			<-ctx.Done() // and acknowledges nevertheless
		}

		ends, wait := own.IntN(8), own.IntN(20)
		return supervisor.ServiceFunc(func(ctx context.Context) error {
			supervisor.Ready(ctx)
			if ends > 2 {
				<-ctx.Done()
			}
			for range wait {
				runtime.Gosched()
			}
			switch ends {
			case 0:
				return errCrash
			case 1:
				panic(errCrash)
			case 2:
				return nil
			}
			return ctx.Err()
		}), nil
	}
}

// manage is one caller of management functions.
func (s storm) manage(r *supervisor.Run) {
	for range 12 {
		s.yields()
		id := strconv.Itoa(s.IntN(8))

		switch s.IntN(9) {
		case 0:
			_ = r.TerminateChild(ctx, id)
		case 1:
			_, _ = r.RestartChild(ctx, id)
		case 2:
			_ = r.DeleteChild(ctx, id)
		case 3:
			_, _ = r.StartChild(ctx, s.child(id, 0))
		case 4:
			_ = r.Kill(id, errCrash)
		case 5:
			_ = r.Kill(fmt.Sprintf("%s/%d", id, s.IntN(4)), errCrash)
		case 6:
			_, _ = r.CountChildren()
		case 7:
			_ = r.Reload(ctx, s.spec(0))
		default:
			_ = r.Tree()
		}
	}
}

// Management calls, kills, ends of every kind and a stop of the whole come at any moment of one
// another. Every call returns, the stop ends, nothing is left, and the history obeys the Laws. In a
// bubble a wait for ever is a failure at once. COPPICE_STORMS sets the number of seeds.
func TestNothingWaitsForEverInAStorm(t *testing.T) {
	suptest.EachSeed(t, "COPPICE_STORMS", 200, func(t *testing.T, seed uint64) {
		s := newStorm(seed, 0)
		spec, rec := s.spec(2), suptest.NewRecorder()
		spec.Observers = append(spec.Observers, rec)

		synctest.Test(t, func(t *testing.T) {
			sup, err := supervisor.New(spec)
			require.NoError(t, err)
			r, err := sup.Start(ctx)
			if err != nil {
				return // a child did not start
			}

			var callers sync.WaitGroup
			for i := range uint64(3) {
				callers.Go(func() { newStorm(seed, 1+i).manage(r) })
			}
			for range s.IntN(6) {
				s.yields()
			}
			_ = r.Stop(ctx) // the error of a run that gave up before
			callers.Wait()

			synctest.Wait()
			suptest.NoOrphans(t, r)
			suptest.NoLeaks(t, r)
			require.NoError(t, r.Flush(ctx))
			rec.Lawful(t)
		})
	})
}

// The same for a Dynamic.
func TestNothingWaitsForEverInAStormOfADynamic(t *testing.T) {
	suptest.EachSeed(t, "COPPICE_STORMS", 200, func(t *testing.T, seed uint64) {
		s := newStorm(seed, 0)
		start := s.start()
		d, err := supervisor.NewDynamic(supervisor.DynamicSpec[int]{
			Restart:   supervisor.Restart(s.IntN(3)),
			Intensity: supervisor.Intensity{Max: s.IntN(200), Period: time.Hour},
			Start:     func(ctx context.Context, _ int) (supervisor.Service, error) { return start(ctx) },
		})
		require.NoError(t, err)

		suptest.Run(t, supervisor.Spec{Intensity: many(s.IntN(3)), Build: children(supervisor.Child{ID: "d",
			Start: func(context.Context) (supervisor.Service, error) { return d, nil }})},
			func(t *testing.T, r *supervisor.Run, _ *suptest.Recorder) {
				var callers sync.WaitGroup
				for i := range uint64(3) {
					callers.Go(func() { newStorm(seed, 1+i).manageDynamic(d, r) })
				}
				for range s.IntN(6) {
					s.yields()
				}
				_ = r.Stop(ctx) // the error of a run that gave up before
				callers.Wait()
			})
	})
}

func (s storm) manageDynamic(d *supervisor.Dynamic[int], r *supervisor.Run) {
	for range 20 {
		s.yields()
		id := strconv.Itoa(s.IntN(6))

		switch s.IntN(6) {
		case 0:
			_ = d.TerminateChild(ctx, id)
		case 1:
			_ = r.Kill("d/"+id, errCrash)
		case 2:
			_, _ = d.CountChildren()
		case 3:
			_, _ = d.StartChild(ctx, "", 0)
		default:
			_, _ = d.StartChild(ctx, id, 0)
		}
	}
}
