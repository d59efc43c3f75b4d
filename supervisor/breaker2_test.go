package supervisor_test

import (
	"context"
	"fmt"
	"io"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/thejerf/suture/v4"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// errList cannot be compared, and its type says so.
type errList []error

func (e errList) Error() string { return fmt.Sprintf("%d errors", len(e)) }

// anyErr can be compared as far as its type says, and panics all the same if what it holds cannot.
type anyErr struct{ V any }

func (e anyErr) Error() string { return fmt.Sprint(e.V) }

// A panic is the child's or the observer's end and nobody else's, whatever its value is.
func TestPanicWithUncomparableError(t *testing.T) {
	for _, bad := range []error{errList{io.EOF}, anyErr{[]int{1}}} {
		p := newProbe("p")
		r, w := tree(t, supervisor.Spec{Intensity: many(9), Build: children(p.child(supervisor.Permanent))})
		r.Subscribe(supervisor.ObserverFunc(func(supervisor.Event) { panic(bad) }))
		<-p.starts
		p.do(func(context.Context) error { panic(bad) })
		e := until(t, w, 1, exitOf("p")).Exit
		require.Equal(t, supervisor.Abnormal, e.Class)
		require.Equal(t, bad, e.Panic)
		require.NotEmpty(t, e.Stack)
		<-p.starts
		require.NotEmpty(t, until[supervisor.ObserverFailed](t, w, 1, nil).String())
		require.NoError(t, r.Stop(ctx))
	}
}

// An error that cannot be compared is as good as any, also where it is the cause of the context and
// is returned as that.
func TestUncomparableErrorAsCause(t *testing.T) {
	for _, bad := range []error{errList{io.EOF}, anyErr{[]int{1}}} {
		synctest.Test(t, func(t *testing.T) {
			untilTold := func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
			child := supervisor.Child{ID: "a", Restart: supervisor.Temporary,
				Start: supervisor.Start(func(ctx context.Context) error {
					if err := supervisor.Go(ctx, func(context.Context) error { return bad }); err != nil {
						return err
					}
					if err := supervisor.Go(ctx, untilTold); err != nil {
						return err
					}
					return untilTold(ctx)
				})}
			r, w := tree(t, supervisor.Spec{Build: children(child)})
			e := until(t, w, 1, exitOf("a")).Exit
			require.Equal(t, supervisor.Abnormal, e.Class)
			require.Equal(t, bad, e.Err)
			require.NoError(t, r.Stop(ctx))
			require.Zero(t, suptest.Count[supervisor.ShutdownError](w, nil))

			// As the reason of who stops the root.
			c, cancel := context.WithCancelCause(ctx)
			s, err := supervisor.New(
				supervisor.Spec{Build: children(supervisor.Child{ID: "a", Start: supervisor.Start(untilTold)})})
			require.NoError(t, err)
			r, err = s.Start(c)
			require.NoError(t, err)
			cancel(bad)
			require.ErrorIs(t, r.Wait(), context.Canceled)
		})
	}
}

// Only a start or a Build that returns ErrIgnore is ignored (OTP rules 12 and 16): not who ends
// with it later, and not who panics with it.
func TestIgnoreIsOnlyReturned(t *testing.T) {
	ignore := fmt.Errorf("wrapped: %w", supervisor.ErrIgnore)
	never := supervisor.Intensity{Period: time.Hour}
	t.Run("an exit", func(t *testing.T) {
		p := newProbe("p")
		r, _ := tree(t, supervisor.Spec{Intensity: never, Build: children(p.child(supervisor.Permanent))})
		<-p.starts
		p.end(ignore)
		require.ErrorIs(t, r.Wait(), supervisor.ErrMaxIntensity)
		s, err := supervisor.New(supervisor.Spec{Intensity: never,
			Build: children(supervisor.Child{ID: "a", Start: supervisor.Start(func(context.Context) error {
				return ignore
			})})})
		require.NoError(t, err)
		require.ErrorIs(t, s.Serve(ctx), supervisor.ErrMaxIntensity, "Serve of a root that gave up")
	})

	bad := supervisor.Child{ID: "a", Start: func(context.Context) (supervisor.Service, error) { panic(ignore) }}
	for where, spec := range map[string]supervisor.Spec{
		"a panic in a start": {Build: children(bad)},
		"a panic in a start, below": {
			Build: children(nested("n", supervisor.Permanent, supervisor.Spec{Build: children(bad)}))},
		"a panic in Build": {Build: func(context.Context) ([]supervisor.Child, error) { panic(ignore) }},
		"a panic in Build, below": {Build: children(nested("n", supervisor.Permanent, supervisor.Spec{
			Build: func(context.Context) ([]supervisor.Child, error) { panic(ignore) }}))},
	} {
		t.Run(where, func(t *testing.T) {
			s, err := supervisor.New(spec)
			require.NoError(t, err)
			r, err := s.Start(ctx)
			var panicked *supervisor.PanicError
			require.ErrorAs(t, err, &panicked)
			require.Nil(t, r)
			require.Error(t, s.Serve(ctx))
		})
	}

	t.Run("management", func(t *testing.T) {
		p := newProbe("p")
		p.before = func(n int) error {
			if n > 1 {
				panic(ignore)
			}
			return nil
		}
		r, _ := tree(t, supervisor.Spec{Build: children(p.child(supervisor.Permanent))})
		_, err := r.StartChild(ctx, bad)
		require.ErrorIs(t, err, supervisor.ErrIgnore) // as what was panicked with
		require.NoError(t, r.TerminateChild(ctx, "p"))
		_, err = r.RestartChild(ctx, "p")
		require.Error(t, err)
		require.Error(t, r.Reload(ctx, supervisor.Spec{Build: func(context.Context) ([]supervisor.Child, error) {
			panic(ignore)
		}}))

		d, err := supervisor.NewDynamic(supervisor.DynamicSpec[int]{Name: "d",
			Start: func(context.Context, int) (supervisor.Service, error) {
				panic(ignore)
			}})
		require.NoError(t, err)
		_, err = r.StartChild(ctx, supervisor.Child{ID: "d", Start: func(context.Context) (supervisor.Service, error) {
			return d, nil
		}})
		require.NoError(t, err)
		_, err = d.StartChild(ctx, "x", 1)
		require.Error(t, err)
	})

	t.Run("returned", func(t *testing.T) {
		r, w := tree(t, supervisor.Spec{Build: children(
			supervisor.Child{ID: "a", Start: func(context.Context) (supervisor.Service, error) { return nil, ignore }},
			nested("n", supervisor.Permanent, supervisor.Spec{Build: func(context.Context) ([]supervisor.Child, error) {
				return nil, ignore
			}}))})
		require.NoError(t, r.Flush(ctx))
		require.Equal(t, 2, suptest.Count[supervisor.ChildIgnored](w, nil))
	})
}

// A close that panics, or ends its goroutine, is the end of the child that acquires, and its
// successor can acquire: the lease keeps its turn.
func TestLease_CloseThatDoesNotReturn(t *testing.T) {
	for name, fault := range map[string]func(){"panic": func() { panic("close") }, "goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opened := 0
				l := supervisor.NewLease(func() (int, error) { opened++; return opened, nil }, func(n int) error {
					if n == 1 {
						fault()
					}
					return nil
				}, time.Second)
				first, err := l.Acquire(ctx)
				require.NoError(t, err)
				got := make(chan *supervisor.Grant[int], 1)
				r, w := tree(t,
					supervisor.Spec{
						Build: children(supervisor.Child{ID: "a",
							Start: supervisor.Start(func(ctx context.Context) error {
								g, err := l.Acquire(ctx)
								if err != nil {
									return err
								}
								got <- g
								<-ctx.Done()
								return ctx.Err()
							})})})
				e := until(t, w, 1, exitOf("a")).Exit
				require.True(t, e.Goexit || e.Panic == "close", "%v", e)
				g := <-got
				require.NoError(t, g.Do(func(n int) error { require.Equal(t, 2, n); return nil }))
				require.Error(t, first.Release(), "it is not known to be closed")
				require.NoError(t, r.Stop(ctx))
				require.NoError(t, l.Close())
			})
		})
	}
}

// A grant with nothing in flight is never stuck, however short the bound.
func TestLease_IdleIsNotStuck(t *testing.T) {
	l := supervisor.NewLease(func() (int, error) { return 1, nil }, func(int) error { return nil }, 0)
	for range 1000 {
		_, err := l.Acquire(ctx)
		require.NoError(t, err)
	}

	require.NoError(t, l.Close())
	synctest.Test(t, func(t *testing.T) {
		for range 200 { // what is in flight ends at the instant of the bound
			l := supervisor.NewLease(func() (int, error) { return 1, nil }, func(int) error { return nil }, time.Second)
			g, err := l.Acquire(ctx)
			require.NoError(t, err)
			begun := make(chan struct{})
			go func() {
				_ = g.Do(func(int) error { close(begun); <-time.After(time.Second); return nil })
			}()

			<-begun

			if _, err = l.Acquire(ctx); err != nil {
				require.ErrorIs(t, err, supervisor.ErrLeaseStuck)
				require.ErrorContains(t, err, ": 1 after")
			}

			synctest.Wait()
		}
	})
}

func newPartition(t *testing.T, n int) (*supervisor.Partition, *supervisor.Run) {
	t.Helper()
	p, err := supervisor.NewPartition(supervisor.PartitionSpec{Name: "p", Partitions: n,
		Start: func(ctx context.Context, _ int) (supervisor.Service, error) {
			return idle(ctx)
		}})
	require.NoError(t, err)
	r, err := p.Start(ctx)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Stop(ctx)) })

	return p, r
}

func runs(t *testing.T, p *supervisor.Partition) int {
	t.Helper()
	n, err := p.CountChildren()
	require.NoError(t, err)
	return n.Active
}

// A Resize that was interrupted can be repeated, and Partitions is what runs.
func TestPartition_ResizeInterrupted(t *testing.T) {
	p, _ := newPartition(t, 4)
	over, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, p.Resize(over, 1), context.Canceled)
	require.Equal(t, runs(t, p), p.Partitions())
	require.NoError(t, p.Resize(ctx, 1))
	require.Equal(t, 1, runs(t, p))
	require.Equal(t, 1, p.Partitions())
}

// Of Resizes at the same time the last one that began says how many run.
func TestPartition_ResizeConcurrently(t *testing.T) {
	p, _ := newPartition(t, 4)
	for i := range 100 {
		var wg sync.WaitGroup
		for k := range 4 {
			wg.Go(func() { _ = p.Resize(ctx, 1+(i+k)%4) })
		}
		wg.Wait()
		require.Equal(t, runs(t, p), p.Partitions())
	}
}

// Route takes integers of all types by their remainder.
func TestPartition_RouteIntegers(t *testing.T) {
	p, _ := newPartition(t, 3)
	type id int
	type flags uint8

	for _, key := range []any{5, int8(5), int16(5), int32(5), int64(5), uint(5), uint8(5), uint16(5), uint32(5),
		uint64(5), uintptr(5), id(5), flags(5), id(-1), int8(-4)} {
		require.Equal(t, 2, p.Route(key), "%T(%v)", key, key)
	}

	require.Equal(t, 0, p.Route(int64(math.MinInt64)+2))
	require.Less(t, p.Route(nil), 3)
}

// A Stop while the Build of a Reload is under way is a clean one.
func TestStopDuringReload(t *testing.T) {
	var built atomic.Int32
	under := make(chan struct{})
	spec := supervisor.Spec{Name: "r", Build: func(ctx context.Context) ([]supervisor.Child, error) {
		if built.Add(1) > 1 {
			close(under)
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return []supervisor.Child{{ID: "a", Start: idle}}, nil
	}}
	r, w := tree(t, spec)
	reloaded := make(chan error)
	go func() { reloaded <- r.Reload(ctx, spec) }()
	<-under
	require.NoError(t, r.Stop(ctx))
	require.NoError(t, r.Err())
	require.ErrorIs(t, <-reloaded, supervisor.ErrNotRunning)
	require.NoError(t, r.Flush(ctx))
	require.Zero(t, suptest.Count[supervisor.Reloaded](w, nil))
}

// Ready has no effect in a child with AckStart: its start is acknowledged by its return (OTP rule
// 13).
func TestReadyIsOnlyForAckReady(t *testing.T) {
	s, err := supervisor.New(supervisor.Spec{
		Build: children(supervisor.Child{ID: "a", Restart: supervisor.Temporary,
			Start: func(ctx context.Context) (supervisor.Service, error) {
				supervisor.Ready(ctx)
				return nil, errCrash
			}})})
	require.NoError(t, err)
	_, err = s.Start(ctx)
	require.ErrorIs(t, err, errCrash)
}

// An observer gets events one at a time and in order, also when the supervisor that it was given to
// restarts while it is behind.
func TestObserverOfARestartedSupervisor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var inside, overlaps, disorder atomic.Int32
		var last atomic.Uint64
		slow := supervisor.ObserverFunc(func(e supervisor.Event) {
			if inside.Add(1) > 1 {
				overlaps.Add(1)
			}
			if e.Head().Seq < last.Swap(e.Head().Seq) {
				disorder.Add(1)
			}
			<-time.After(time.Second)
			inside.Add(-1)
		})
		broken := supervisor.ObserverFunc(func(e supervisor.Event) { <-time.After(time.Minute); panic("broken") })
		var seen atomic.Int32
		p := newProbe("p")
		r, w := tree(t, supervisor.Spec{Intensity: many(9),
			Build: children(nested("n", supervisor.Permanent, supervisor.Spec{
				Observers: []supervisor.Observer{slow, broken, supervisor.SutureEvents(func(suture.Event) {
					seen.Add(1)
				})}, Build: children(p.child(supervisor.Permanent))}))})

		for i := range 5 {
			<-p.starts
			p.end(errCrash)
			<-p.starts
			require.NoError(t, r.Kill("n", nil))
			until(t, w, i+2, at("n"))
		}

		require.NoError(t, r.Flush(ctx))
		require.Zero(t, overlaps.Load(), "calls at the same time")
		require.Zero(t, disorder.Load(), "calls out of order")
		require.NotZero(t, last.Load())
		require.EqualValues(t, 5, seen.Load())
		require.NoError(t, r.Stop(ctx))
		<-time.After(time.Hour) // of the bubble: all is delivered
		require.Zero(t, overlaps.Load()+disorder.Load())
		require.Equal(t, 6, suptest.Count[supervisor.ObserverFailed](w, nil), "each run's, once")
	})
}
