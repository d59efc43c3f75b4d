package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// Many concurrent callers do everything that can be done to a tree, while children crash, hang for
// a moment, and refuse to start. Each call returns an error from the list or none, the stop ends,
// nothing is left, and the history obeys the laws. COPPICE_HAMMER sets how many calls each caller
// makes; the soak asks for more.
func TestHammer(t *testing.T) {
	const callers = 8
	calls := 300
	if n, err := strconv.Atoi(os.Getenv("COPPICE_HAMMER")); err == nil {
		calls = n
	}
	for round := range 3 {
		hammer(t, uint64(round), callers, calls)
	}
}

// known lists the errors that a call may return.
var known = []error{
	supervisor.ErrNotFound, supervisor.ErrAlreadyStarted, supervisor.ErrAlreadyPresent, supervisor.ErrRunning,
	supervisor.ErrRestarting, supervisor.ErrNotRunning,
	supervisor.ErrKilled, supervisor.ErrNotInjectable, supervisor.ErrMaxChildren, errCrash, context.DeadlineExceeded,
	context.Canceled, supervisor.ErrEndedBeforeReady,
	supervisor.ErrMaxIntensity, supervisor.ErrShutdown,
}

func hammer(t *testing.T, seed uint64, callers, calls int) {
	many := supervisor.Intensity{Max: 1 << 30, Period: time.Hour}
	few := supervisor.Intensity{Max: 20, Period: 10 * time.Millisecond} // it gives up now and then
	wild := func(id string) supervisor.Child {
		return supervisor.Child{ID: id, Start: func(ctx context.Context) (supervisor.Service, error) {
			switch rand.IntN(12) {
			case 0:
				return nil, errCrash
			case 1:
				return nil, supervisor.ErrIgnore
			}
			return supervisor.ServiceFunc(func(ctx context.Context) error {
				if rand.IntN(3) == 0 {
					_ = supervisor.Go(ctx, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
				}

				life := time.NewTimer(time.Duration(rand.IntN(3000)) * time.Microsecond)
				defer life.Stop()

				for {
					select {
					case f := <-supervisor.Faults(ctx):
						f.Do(ctx)

					case <-ctx.Done():
						return ctx.Err()

					case <-life.C:
						if rand.IntN(2) == 0 {
							panic(errCrash)
						}
						return errCrash
					}
				}
			}), nil
		}}
	}

	pool, err := supervisor.NewDynamic(supervisor.DynamicSpec[string]{Name: "pool", Restart: supervisor.Transient,
		Intensity: many, MaxChildren: 40,
		Start: func(ctx context.Context, id string) (supervisor.Service, error) { return wild(id).Start(ctx) }})
	require.NoError(t, err)
	spec := supervisor.Spec{Name: "hammer", Strategy: supervisor.OneForOne, Intensity: many,
		Build: func(context.Context) ([]supervisor.Child, error) {
			calm := func(c supervisor.Child) supervisor.Child { c.Start = idle; return c }
			return []supervisor.Child{
				calm(wild("a")),
				nested("all", 0, supervisor.Spec{Strategy: supervisor.OneForAll, Intensity: few,
					Build: children(calm(wild("b")), calm(wild("c")))}),
				nested("rest", 0, supervisor.Spec{Strategy: supervisor.RestForOne, Intensity: many,
					Build: children(calm(wild("d")), calm(wild("e")))}),
				{ID: "pool", Start: func(context.Context) (supervisor.Service, error) { return pool, nil }},
			}, nil
		}}
	rec := suptest.NewRecorder()
	spec.Observers = []supervisor.Observer{rec}
	s, err := supervisor.New(spec)
	require.NoError(t, err)
	r, err := s.Start(ctx)
	require.NoError(t, err)
	paths := []string{"a", "all", "all/b", "all/c", "rest", "rest/d", "rest/e", "pool", "pool/1", "pool/2", "x0", "x1",
		"x2", "nobody/at/all"}
	var wg sync.WaitGroup

	for caller := range callers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(caller)))
			for range calls {
				short, cancel := context.WithTimeout(ctx, time.Duration(1+random.IntN(50))*time.Millisecond)
				id, path := fmt.Sprint("x", random.IntN(3)), paths[random.IntN(len(paths))]
				var err error

				switch random.IntN(16) {
				case 0, 1:
					_, err = r.StartChild(short, wild(id))

				case 2:
					err = r.TerminateChild(short, id)

				case 3:
					_, err = r.RestartChild(short, id)

				case 4:
					err = r.DeleteChild(short, id)

				case 5, 6:
					err = r.Kill(path, errCrash)

				case 7:
					err = r.Inject(short, path, supervisor.Fault{Name: "panic", Do: func(context.Context) {
						panic(errCrash)
					}})

				case 8, 9:
					_, err = pool.StartChild(short, "", "y")

				case 10:
					err = pool.TerminateChild(short, strconv.Itoa(random.IntN(20)))

				case 11:
					r.Tree()
					_, err = r.CountChildren()

				case 12:
					var list []supervisor.ChildInfo
					if list, err = pool.WhichChildren(); err == nil && len(list) > 0 {
						err = pool.TerminateRef(short, list[random.IntN(len(list))].Ref)
					}

				case 13:
					var info supervisor.ChildInfo
					if info, err = r.WhichChild(id); err == nil {
						select {
						case <-supervisor.Monitor(info.Ref):
						case <-short.Done():
						}
					}

				case 14:
					err = r.Reload(short, spec)

				case 15:
					err = r.Flush(short)
				}

				cancel()
				ok := err == nil
				for _, k := range known {
					ok = ok || errors.Is(err, k)
				}

				if !ok {
					t.Errorf("an answer that is none: %v", err)
				}
			}
		})
	}

	wg.Wait()
	err = r.Stop(ctx)

	for _, k := range known {
		if errors.Is(err, k) {
			err = nil
		}
	}

	require.NoError(t, err)
	require.NoError(t, r.Flush(ctx))
	suptest.NoOrphans(t, r)
	suptest.NoLeaks(t, r)
	if suptest.Count[supervisor.EventsDropped](rec, nil) == 0 {
		require.NoError(t, suptest.Laws(rec.Events()))
	}
}
