package supervisor_test

import (
	"context"
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

func TestDynamic_ManyAtOnce(t *testing.T) {
	var served atomic.Int64
	d, r, _ := dynamic(t, supervisor.DynamicSpec[*probe]{Restart: supervisor.Temporary,
		Start: func(context.Context, *probe) (supervisor.Service, error) {
			return supervisor.ServiceFunc(func(context.Context) error { served.Add(1); return nil }), nil
		}})
	var group sync.WaitGroup

	for range 8 {
		group.Go(func() {
			for range 1000 {
				if _, err := d.StartChild(ctx, "", nil); err != nil {
					t.Error(err)
				}
			}
		})
	}

	group.Wait()
	require.NoError(t, r.Stop(ctx))
	require.EqualValues(t, 8000, served.Load())
}

func TestDynamic_CallersAndSelves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, r, _ := dynamic(t, supervisor.DynamicSpec[*probe]{
			Start: func(ctx context.Context, p *probe) (supervisor.Service, error) {
				if p == nil {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return p.start(ctx)
			}})
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()

		_, err := d.StartChild(short, "hung", nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		synctest.Wait()
		_, err = d.WhichChild("hung")
		require.ErrorIs(t, err, supervisor.ErrNotFound)

		p, q := newProbe("p"), newProbe("q")
		_, err = d.StartChild(ctx, "p", p)
		require.NoError(t, err)
		<-p.starts
		errs := make(chan error, 4)
		release := make(chan struct{})
		p.do(func(ctx context.Context) error {
			errs <- second(d.StartChild(ctx, "q", q)) // an instance may start another
			errs <- d.TerminateChild(ctx, "q")
			errs <- d.TerminateChild(ctx, "p")
			errs <- d.Stop(ctx)
			<-release
			return ctx.Err()
		})
		require.NoError(t, <-errs)
		require.NoError(t, <-errs)
		require.ErrorIs(t, <-errs, supervisor.ErrWouldDeadlock)
		require.ErrorIs(t, <-errs, supervisor.ErrWouldDeadlock)

		leave, cancel2 := context.WithCancel(ctx)
		cancel2()
		require.ErrorIs(t, d.TerminateChild(leave, "p"), context.Canceled)
		close(release) // the stop continues
		synctest.Wait()
		_, err = d.WhichChild("p")
		require.ErrorIs(t, err, supervisor.ErrNotFound)
		require.Error(t, d.Serve(ctx)) // already served
		require.Equal(t, "root", r.Tree().ID)
		require.NotEmpty(t, r.Events())
		require.NotEmpty(t, d.Events())
	})
}

func TestDynamic_SentinelsAndNestedSupervisors(t *testing.T) {
	leaf := newProbe("leaf")
	d, r, w := dynamic(t, supervisor.DynamicSpec[*probe]{Name: "d",
		Start: func(context.Context, *probe) (supervisor.Service, error) {
			return supervisor.New(supervisor.Spec{Build: children(leaf.child(0))})
		}})
	_, err := d.StartChild(ctx, "sub", nil)
	require.NoError(t, err)
	<-leaf.starts
	require.NoError(t, d.Kill("sub/leaf", nil))
	<-leaf.starts
	n, err := d.CountChildren()
	require.NoError(t, err)
	require.Equal(t, supervisor.Counts{Specs: 1, Active: 1, Supervisors: 1}, n)
	require.Equal(t, "leaf", mustFind(t, r, "d/sub/leaf").ID)
	require.Contains(t, d.Tree().String(), "dynamic, 1 instances")
	require.NoError(t, d.Stop(ctx))
	until(t, w, 2, at("d"))
	require.Equal(t, "d", d.String())

	idle, err := supervisor.NewDynamic(supervisor.DynamicSpec[int]{Name: "idle",
		Start: func(context.Context, int) (supervisor.Service, error) {
			return nil, nil
		}})
	require.NoError(t, err)
	require.Equal(t, supervisor.NotRunning, idle.Tree().State)
	require.Empty(t, idle.Orphans())
	require.Empty(t, idle.Events())

	p := newProbe("p")
	d, _, w = dynamic(t, supervisor.DynamicSpec[*probe]{})
	_, err = d.StartChild(ctx, "p", p)
	require.NoError(t, err)
	<-p.starts
	p.end(suture.ErrDoNotRestart)
	until(t, w, 1, exitOf("d/p"))
	_, err = d.WhichChild("p")
	require.ErrorIs(t, err, supervisor.ErrNotFound)
	_, err = d.StartChild(ctx, "p", p)
	require.NoError(t, err)
	<-p.starts
	p.end(suture.ErrTerminateSupervisorTree)
	until[supervisor.SupervisorStopped](t, w, 1, func(e supervisor.SupervisorStopped) bool { return e.Path == "" })
}

// late is a context that ends when StartChild looks at it. By then, until has returned.
type late struct {
	context.Context
	until func()
	over  atomic.Bool
}

func (l *late) Done() <-chan struct{} {
	l.until()
	l.over.Store(true)
	closed := make(chan struct{})
	close(closed)
	return closed
}

func (l *late) Err() error {
	if l.over.Load() {
		return context.Canceled
	}
	return nil
}

// StartChild: "If ctx ends first, the instance is told to end." That holds even if the instance has
// crashed meanwhile and is in its second incarnation, or between the two.
func TestDynamicStartCancelledAfterRestart(t *testing.T) {
	for _, backoff := range []supervisor.Backoff{{}, {Min: 1 << 40}} {
		cancelled := 0
		for range 40 { // select chooses among the acknowledgment, the end and the context
			synctest.Test(t, func(t *testing.T) {
				var n atomic.Int32
				d, err := supervisor.NewDynamic(supervisor.DynamicSpec[int]{Name: "d", Intensity: many(9),
					Backoff: backoff, Start: func(context.Context, int) (supervisor.Service, error) {
						return supervisor.ServiceFunc(func(ctx context.Context) error {
							if n.Add(1) == 1 {
								return errCrash
							}
							<-ctx.Done()
							return ctx.Err()
						}), nil
					}})
				require.NoError(t, err)
				r, _ := tree(t,
					supervisor.Spec{
						Build: children(supervisor.Child{ID: "d",
							Start: func(context.Context) (supervisor.Service, error) {
								return d, nil
							}})})
				_, err = d.StartChild(&late{Context: ctx, until: synctest.Wait}, "x", 1)
				synctest.Wait()
				_, known := d.WhichChild("x")

				if err == nil {
					require.NoError(t, known)
				} else {
					require.ErrorIs(t, err, context.Canceled)
					require.ErrorIs(t, known, supervisor.ErrNotFound)
					cancelled++
				}

				require.True(t, r.Tree().Settled() || backoff.Min > 0)
				require.NoError(t, r.Stop(ctx))
			})
		}

		require.Positive(t, cancelled)
	}
}

// A verbose Dynamic emits an event for each end, and another if the end was not clean (OTP rule
// 58). An instance that was ended before its acknowledgment has not stopped: its start has failed.
// The Laws check the rest.
func TestVerboseUncleanStop(t *testing.T) {
	unclean := func(ctx context.Context) error { <-ctx.Done(); return errCrash }
	d, err := supervisor.NewDynamic(supervisor.DynamicSpec[bool]{Name: "d", Verbose: true, Ack: supervisor.AckReady,
		Start: func(_ context.Context, ready bool) (supervisor.Service, error) {
			return supervisor.ServiceFunc(func(ctx context.Context) error {
				if ready {
					supervisor.Ready(ctx)
				}
				return unclean(ctx)
			}), nil
		}})
	require.NoError(t, err)
	r, w := tree(t, supervisor.Spec{
		Build: children(supervisor.Child{ID: "d", Start: func(context.Context) (supervisor.Service, error) {
			return d, nil
		}})})

	for range 2 {
		_, err := d.StartChild(ctx, "x", true)
		require.NoError(t, err)
		require.NoError(t, d.TerminateChild(ctx, "x"))
	}

	failed := make(chan error)
	go func() {
		_, err := d.StartChild(ctx, "never ready", false)
		failed <- err
	}()

	until(t, w, 1, func(e supervisor.ChildStarting) bool { return e.Path == "d/never ready" })
	require.NoError(t, d.TerminateChild(ctx, "never ready"))
	require.Error(t, <-failed)
	_, err = d.StartChild(ctx, "y", true)
	require.NoError(t, err)
	require.NoError(t, r.Stop(ctx))
	require.NoError(t, r.Flush(ctx))
	require.Equal(t, []string{"+d/x", "-d/x", "+d/x", "-d/x", "?d/never ready", "+d/y", "-d/y", "-d"}, steps(w)[1:])
	require.Equal(t, 3, suptest.Count(w, func(e supervisor.ShutdownError) bool { return e.Path != "d" }))
	w.Lawful(t)
}
