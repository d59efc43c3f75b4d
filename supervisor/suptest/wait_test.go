package suptest_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// looked counts how often a tree is looked at.
type looked struct {
	*supervisor.Run
	n atomic.Int64
}

func (l *looked) Tree() supervisor.Tree {
	l.n.Add(1)
	return l.Run.Tree()
}

// lazy is a child that breaks once, and whose restart is delayed.
func lazy(delay time.Duration) supervisor.Child {
	c := till()
	c.Backoff = supervisor.Backoff{Min: delay}
	return c
}

// Three virtual hours pass in no time: the wait has nothing to do until the tree changes. The
// default limit of a wait is no limit for virtual time.
func TestWaits_PassVirtualTimeAtOnce(t *testing.T) {
	many := supervisor.Intensity{Max: 9, Period: time.Hour}
	suptest.Run(t, supervisor.Spec{Intensity: many, Build: supervisor.Children(lazy(3 * time.Hour))},
		func(t *testing.T, run *supervisor.Run, rec *suptest.Recorder) {
			began := time.Now()
			l := &looked{Run: run}
			suptest.Wait[supervisor.RestartScheduled](t, rec, 1, nil)
			rec.Settle(t, l)
			require.Equal(t, 3*time.Hour, time.Since(began).Truncate(time.Hour))
			require.Less(t, l.n.Load(), int64(50))
		})
	suptest.Run(t, supervisor.Spec{Intensity: many, Build: supervisor.Children(lazy(100 * time.Hour))},
		func(t *testing.T, _ *supervisor.Run, rec *suptest.Recorder) {
			suptest.Wait(t, rec, 2, func(e supervisor.ChildStarted) bool { return e.Path == "till" })
		})
}

// The instances of a Dynamic come up without an event. That wakes a wait too, in virtual and in
// real time.
func TestSettle_WithoutEvents(t *testing.T) {
	settle := func(t *testing.T) {
		ready := make(chan struct{})
		d, err := supervisor.NewDynamic(supervisor.DynamicSpec[int]{Ack: supervisor.AckReady,
			StartTimeout: supervisor.Infinity, Start: func(context.Context, int) (supervisor.Service, error) {
				return supervisor.ServiceFunc(func(ctx context.Context) error {
					<-ready
					supervisor.Ready(ctx)
					<-ctx.Done()
					return ctx.Err()
				}), nil
			}})
		require.NoError(t, err)
		run, rec := suptest.Start(t, supervisor.Spec{Build: supervisor.Children(supervisor.Child{ID: "d",
			Start: func(context.Context) (supervisor.Service, error) { return d, nil }})})
		for i := range 3 {
			go func() { _, _ = d.StartChild(context.Background(), "", i) }()
		}
		for {
			change := run.Changed()
			if d.Tree().Instances == 3 {
				break
			}
			<-change
		}

		l := &looked{Run: run}
		time.AfterFunc(50*time.Millisecond, func() { close(ready) })
		rec.Settle(t, l)
		require.Equal(t, 3, d.Tree().InstancesRunning)
		require.Less(t, l.n.Load(), int64(20))
	}

	t.Run("real time", settle)
	t.Run("virtual time", func(t *testing.T) { synctest.Test(t, settle) })
}

// A supervisor that is about to be served, or served again, can be waited for.
func TestSettle_OfASupervisorThatStartsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := suptest.NewRecorder()
		s, err := supervisor.New(supervisor.Spec{Observers: []supervisor.Observer{rec},
			Build: supervisor.Children(soft("a"))})
		require.NoError(t, err)

		for range 2 {
			time.AfterFunc(time.Hour, func() { _ = s.Serve(context.Background()) })
			rec.Settle(t, s)
			require.NoError(t, s.Stop(context.Background()))
		}
	})
}

// An incarnation that was not waited for gets a second, and its end wakes NoOrphans.
func TestNoOrphans_WaitsForABrutalEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := supervisor.New(supervisor.Spec{Observers: []supervisor.Observer{supervisor.Discard},
			Build: supervisor.Children(supervisor.Child{ID: "a", Shutdown: supervisor.Brutal,
				Start: supervisor.Start(func(ctx context.Context) error {
					<-ctx.Done()
					<-time.After(300 * time.Millisecond)
					return errors.New("late")
				})})})
		require.NoError(t, err)
		run, err := s.Start(context.Background())
		require.NoError(t, err)
		require.NoError(t, run.Stop(context.Background()))
		began := time.Now()
		suptest.NoOrphans(t, run)
		require.Equal(t, 300*time.Millisecond, time.Since(began))
	})
}
