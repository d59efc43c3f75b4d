package supervisor_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/thejerf/suture/v4"

	"github.com/coppice-go/coppice/supervisor"
)

// A suture tree is a child of ours, new for every incarnation. Services that it leaves behind are
// in its exit.
func TestFromSuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe("p")
		release := make(chan struct{})
		r, w := tree(t, supervisor.Spec{Intensity: many(9),
			Build: children(supervisor.Child{ID: "s", Shutdown: time.Minute,
				Start: supervisor.FromSuture(func(context.Context) (supervisor.Service, error) {
					s := suture.New("s", suture.Spec{EventHook: func(suture.Event) {}, Timeout: time.Second})
					s.Add(supervisor.ServiceFunc(p.serve))
					s.Add(deaf{release})
					return s, nil
				})})})
		<-p.starts
		p.end(errCrash) // its own supervisor restarts it
		<-p.starts
		require.NoError(t, r.TerminateChild(ctx, "s"))
		e := until[supervisor.ShutdownError](t, w, 1, nil)
		require.ErrorIs(t, e.Exit.Err, supervisor.ErrOrphan)
		require.ErrorContains(t, e.Exit.Err, "deaf service")
		close(release)
		_, err := r.RestartChild(ctx, "s")
		require.NoError(t, err)
		<-p.starts
		require.NoError(t, r.Stop(ctx))

		_, err = supervisor.FromSuture(func(context.Context) (supervisor.Service, error) { return nil, errCrash })(ctx)
		require.ErrorIs(t, err, errCrash)
		svc, err := supervisor.FromSuture(func(context.Context) (supervisor.Service, error) {
			return supervisor.ServiceFunc(func(context.Context) error { return errCrash }), nil
		})(ctx)
		require.NoError(t, err)
		require.ErrorIs(t, svc.Serve(ctx), errCrash)
	})
}

type deaf struct{ release chan struct{} }

func (d deaf) Serve(context.Context) error { <-d.release; return suture.ErrDoNotRestart }
func (d deaf) String() string              { return "deaf service" }

// Our supervisor is a child of a suture tree: it is a Service, and is served again there.
func TestOursUnderSuture(t *testing.T) {
	p := newProbe("p")
	ours, err := supervisor.New(supervisor.Spec{Name: "ours", Intensity: supervisor.Intensity{Period: time.Hour},
		Build: children(p.child(0))})
	require.NoError(t, err)
	root := suture.New("root", suture.Spec{EventHook: func(suture.Event) {}})
	root.Add(ours)
	c, cancel := context.WithCancel(ctx)
	done := root.ServeBackground(c)
	<-p.starts
	p.end(errCrash) // ours gives up, suture serves it again
	<-p.starts
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

func TestSutureEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := make(chan suture.Event, 100)
		o := supervisor.SutureEvents(func(e suture.Event) { events <- e })
		p, h := newProbe("p"), newHang("h")
		c := p.child(0)
		c.Backoff = supervisor.Backoff{Min: time.Second}
		r, _ := tree(t, supervisor.Spec{Name: "root", Intensity: many(9), Observers: []supervisor.Observer{o},
			Build: children(
				nested("sub", 0, supervisor.Spec{Intensity: many(9), Build: children(c)}),
				h.child(0, supervisor.Abandon), newProbe("t").child(supervisor.Transient),
			)})
		<-p.starts
		p.do(func(context.Context) error { panic("boom") })
		panicked := (<-events).(suture.EventServicePanic)
		require.Equal(t, "sub", panicked.SupervisorName)
		require.Equal(t, "p", panicked.ServiceName)
		require.Equal(t, "boom", panicked.PanicMsg)
		require.True(t, panicked.Restarting)
		require.Contains(t, panicked.String(), "sub: Failed service 'p'")
		require.Equal(t, "sub: Entering the backoff state.", (<-events).(suture.EventBackoff).String())
		require.Equal(t, "sub: Exiting backoff state.", (<-events).(suture.EventResume).String())
		<-p.starts
		p.end(errCrash)
		require.Equal(t, errCrash, (<-events).(suture.EventServiceTerminate).Err)
		<-events
		<-events
		require.ErrorIs(t, r.TerminateChild(ctx, "h"), supervisor.ErrOrphan)
		stuck := (<-events).(suture.EventStopTimeout)
		require.Equal(t, "root", stuck.SupervisorName)
		require.Equal(t, "root: Service h failed to terminate in a timely manner", stuck.String())
		require.Error(t, stuck.Service.Serve(ctx))
		close(h.release)
		synctest.Wait()
		require.Empty(t, events)
		require.False(t, errors.Is(r.Err(), errCrash))
	})
}
