package supervisor_test

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/thejerf/suture/v4"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

func TestObservers(t *testing.T) {
	t.Run("one that panics is detached, and the others hear of it", func(t *testing.T) {
		for _, bad := range []func(){func() { panic("observer") }, func() { runtime.Goexit() }} {
			_, w := tree(t, supervisor.Spec{
				Observers: []supervisor.Observer{supervisor.ObserverFunc(func(supervisor.Event) {
					bad()
				})}})
			require.Error(t, until[supervisor.ObserverFailed](t, w, 1, nil).Err)
		}
	})

	t.Run("one that is slow loses the newest and is told so", func(t *testing.T) {
		gate := make(chan struct{})
		lost := make(chan uint64, 1)
		blocked := make(chan struct{}, 1)
		s, err := supervisor.New(supervisor.Spec{Intensity: many(1 << 20),
			Observers: []supervisor.Observer{supervisor.ObserverFunc(func(e supervisor.Event) {
				select {
				case blocked <- struct{}{}:
				default:
				}
				<-gate
				if d, ok := e.(supervisor.EventsDropped); ok {
					lost <- d.Count
				}
			})}, Build: children(supervisor.Child{ID: "p", Start: func(context.Context) (supervisor.Service, error) {
				return supervisor.ServiceFunc(func(context.Context) error { return errCrash }), nil
			}})})
		require.NoError(t, err)
		r, err := s.Start(ctx)
		require.NoError(t, err)
		<-blocked

		for { // four events for each life
			if n, ok := r.Tree().Find("p"); ok && n.Restarts > supervisor.ObserverBacklog/3 {
				break
			}
			runtime.Gosched()
		}

		require.NoError(t, r.Stop(ctx)) // it delays nothing else
		close(gate)
		require.Positive(t, <-lost)
		require.NoError(t, r.Flush(ctx))
		require.Len(t, r.Events(), supervisor.HistorySize)
	})

	t.Run("of a nested supervisor they get its subtree", func(t *testing.T) {
		inner := suptest.NewRecorder()
		p := newProbe("p")
		r, _ := tree(t, supervisor.Spec{Build: children(supervisor.Child{ID: "x", Start: idle},
			nested("sub", 0, supervisor.Spec{Observers: []supervisor.Observer{inner}, Build: children(p.child(0))}))})
		require.NoError(t, r.Stop(ctx))
		until[supervisor.SupervisorStopped](t, inner, 1, nil)
		for _, e := range inner.Events() {
			require.Regexp(t, "^sub(/p)?$", e.Head().Path)
		}
	})

	t.Run("subscribe has no gap", func(t *testing.T) {
		r, _ := tree(t, supervisor.Spec{Build: children(supervisor.Child{ID: "x", Start: idle})})
		late := suptest.NewRecorder()
		past, cancel := r.Subscribe(late)
		require.NotEmpty(t, past)
		require.NoError(t, r.TerminateChild(ctx, "x"))
		e := until[supervisor.ChildStopped](t, late, 1, nil)
		require.Equal(t, past[len(past)-1].Head().Seq+1, e.Seq)
		cancel()
		require.NoError(t, r.Stop(ctx))
		require.Len(t, late.Events(), 1)
	})

	t.Run("flush is bounded", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			gate := make(chan struct{})
			s, err := supervisor.New(
				supervisor.Spec{Observers: []supervisor.Observer{supervisor.ObserverFunc(func(supervisor.Event) {
					<-gate
				})}})
			require.NoError(t, err)
			c, cancel := context.WithCancel(ctx)
			cancel()
			begin := time.Now()
			require.ErrorIs(t, s.Serve(c), context.Canceled)
			require.Equal(t, time.Second, time.Since(begin))
			close(gate)
		})
	})
}

// An observer gets events one at a time and in order, even if its supervisor restarts while the
// observer is behind.
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
