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
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// A suture tree is a child of ours, new for every incarnation.
func TestFromSuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe("p")
		r, _ := tree(t, supervisor.Spec{Intensity: many(9),
			Build: children(supervisor.Child{ID: "s", Shutdown: time.Minute,
				Start: supervisor.FromSuture(func(context.Context) (supervisor.Service, error) {
					s := suture.New("s", suture.Spec{EventHook: func(suture.Event) {}, Timeout: time.Second})
					s.Add(supervisor.ServiceFunc(p.serve))
					return s, nil
				})})})
		<-p.starts
		p.end(errCrash) // its own supervisor restarts it
		<-p.starts
		require.NoError(t, r.TerminateChild(ctx, "s"))
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

// leaky is a suture tree with a deaf service: of the tree itself, or of a supervisor in it that
// ends in time.
func leaky(p *probe, release chan struct{}, depth int) supervisor.StartFunc {
	return supervisor.FromSuture(func(context.Context) (supervisor.Service, error) {
		s := suture.New("s", suture.Spec{EventHook: func(suture.Event) {}, Timeout: time.Second})
		s.Add(supervisor.ServiceFunc(p.serve))
		in := s
		for range depth {
			sub := suture.New("sub", suture.Spec{Timeout: time.Second / 2})
			in.Add(sub)
			in = sub
		}
		in.Add(deaf{release})
		return s, nil
	})
}

// Services that a suture tree leaves behind are in the error of the stop, and are listed until they
// have ended.
func TestFromSuture_OrphansInStopAndOrphans(t *testing.T) {
	for depth, name := range []string{"of the tree", "of a nested supervisor", "of one two levels down"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, release := newProbe("p"), make(chan struct{})
				rec := suptest.NewRecorder()
				r := start(t, supervisor.Spec{Observers: []supervisor.Observer{rec}, Build: children(nested("sup", 0,
					supervisor.Spec{Build: children(supervisor.Child{ID: "s", Kind: supervisor.SupervisorKind,
						Start: leaky(p, release, depth)})}))})
				<-p.starts
				synctest.Wait()

				err := r.Stop(ctx)
				require.ErrorIs(t, err, supervisor.ErrOrphan)
				require.ErrorContains(t, err, "sup/s")
				require.ErrorContains(t, err,
					map[bool]string{true: "deaf service", false: "nested supervisors"}[depth == 0])
				suptest.Wait(t, rec, 1, func(e supervisor.ChildOrphaned) bool { return e.Path == "sup/s" })

				orphans := r.Orphans()
				require.Len(t, orphans, 1)
				require.Equal(t, "sup/s", orphans[0].Path)
				require.Contains(t, orphans[0].Stack, "deaf")
				require.NotZero(t, orphans[0].Goroutines)

				close(release)
				synctest.Wait()
				require.Empty(t, r.Orphans())
				suptest.Wait[supervisor.OrphanEnded](t, rec, 1, nil)
			})
		})
	}
}

// The policy of an orphan holds for what a suture tree leaves behind, too.
func TestFromSuture_OrphanPolicies(t *testing.T) {
	for _, policy := range []supervisor.OrphanPolicy{supervisor.Escalate, supervisor.Wait, supervisor.Abandon} {
		for _, shutdown := range []time.Duration{time.Minute, time.Second / 2} { // suture's own time is between
			t.Run(policy.String()+" after "+shutdown.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p, release := newProbe("p"), make(chan struct{})
					rec := suptest.NewRecorder()
					r := start(t, supervisor.Spec{Intensity: many(9), Observers: []supervisor.Observer{rec},
						Build: children(supervisor.Child{ID: "s", Shutdown: shutdown, Orphan: policy,
							Start: leaky(p, release, 0)})})
					<-p.starts
					began := time.Now()
					if policy == supervisor.Wait {
						time.AfterFunc(time.Hour, func() { close(release) })
						require.NoError(t, r.TerminateChild(ctx, "s"))
						require.InDelta(t, time.Hour, time.Since(began), float64(5*time.Minute))
						require.Empty(t, r.Orphans())
						require.NoError(t, r.Stop(ctx))
						return
					}

					require.ErrorIs(t, r.TerminateChild(ctx, "s"), supervisor.ErrOrphan)
					<-time.After(10 * time.Minute)
					require.Len(t, r.Orphans(), 1, "it still runs")
					if policy == supervisor.Escalate {
						require.ErrorIs(t, r.Wait(), supervisor.ErrOrphan)
						suptest.Wait[supervisor.GaveUp](t, rec, 1, nil)
					} else {
						require.NoError(t, second(r.RestartChild(ctx, "s")))
						<-p.starts
						require.NoError(t, r.Stop(ctx))
						require.Len(t, r.Orphans(), 2)
					}

					close(release)
					synctest.Wait()
					n := suptest.Count[supervisor.ChildOrphaned](rec, nil)
					suptest.Wait[supervisor.OrphanEnded](t, rec, n, nil) // without a look
					require.Empty(t, r.Orphans())
				})
			})
		}
	}
}

// A tree that ends by itself and leaves a service behind is an orphan, too. One whose services have
// all ended is not, however often that is tried.
func TestFromSuture_EndsByItself(t *testing.T) {
	release := make(chan struct{})
	p := newProbe("p")
	rec := suptest.NewRecorder()
	r := start(t, supervisor.Spec{Observers: []supervisor.Observer{rec}, Build: children(supervisor.Child{ID: "s",
		Restart: supervisor.Temporary, Start: leaky(p, release, 0)})})
	<-p.starts
	p.end(suture.ErrTerminateSupervisorTree)
	require.ErrorIs(t, r.Wait(), supervisor.ErrOrphan)
	require.Len(t, r.Orphans(), 1)
	close(release)
	suptest.Wait[supervisor.OrphanEnded](t, rec, 1, nil)

	for range 200 {
		r := start(t, supervisor.Spec{Build: children(supervisor.Child{ID: "s",
			Start: supervisor.FromSuture(func(context.Context) (supervisor.Service, error) {
				s := suture.New("s", suture.Spec{EventHook: func(suture.Event) {}})
				for range 20 {
					s.Add(supervisor.ServiceFunc(func(ctx context.Context) error { <-ctx.Done(); return nil }))
				}
				return s, nil
			})})})
		require.NoError(t, r.Stop(ctx))
		require.Empty(t, r.Orphans())
	}
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
