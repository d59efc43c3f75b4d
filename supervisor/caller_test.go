package supervisor_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
)

// calls are the management calls of a Supervisor and of a Run.
type calls interface {
	StartChild(context.Context, supervisor.Child) (supervisor.Ref, error)
	RestartChild(context.Context, string) (supervisor.Ref, error)
	TerminateChild(context.Context, string) error
	DeleteChild(context.Context, string) error
	Reload(context.Context, supervisor.Spec) error
	Stop(context.Context) error
}

// family is a root with the child "sib" and the supervisor "sub", whose children are "p" and "q".
type family struct {
	root      *supervisor.Run
	sub       *supervisor.Supervisor
	sib, p, q *probe
	spec      supervisor.Spec // of sub
}

func newFamily(t *testing.T) *family {
	t.Helper()
	f := &family{sib: newProbe("sib"), p: newProbe("p"), q: newProbe("q")}
	f.spec = supervisor.Spec{Name: "sub", Intensity: many(9), Build: children(f.p.child(0), f.q.child(0))}
	var err error
	f.sub, err = supervisor.New(f.spec)
	require.NoError(t, err)
	f.root, _ = tree(t, supervisor.Spec{Intensity: many(9), Build: children(f.sib.child(0), supervisor.Child{ID: "sub",
		Start: func(context.Context) (supervisor.Service, error) { return f.sub, nil }})})
	<-f.p.starts
	<-f.q.starts

	return f
}

// asks makes the probe's goroutine call f, and waits until f has returned.
func (p *probe) asks(f func(context.Context)) {
	done := make(chan struct{})
	p.do(func(ctx context.Context) error {
		func() {
			defer close(done) // also if f ends its goroutine, as a failed requirement does
			f(ctx)
		}()
		return p.serve(ctx)
	})
	<-done
}

// OTP rules 22, 24, 26, 27 and 81: a running child calls its own supervisor, and one above that, as
// any other process does.
func TestRule22_Rule24_Rule26_RunningChildCallsItsSupervisor(t *testing.T) {
	f := newFamily(t)
	f.p.asks(func(ctx context.Context) {
		for _, c := range []struct {
			sup     calls
			sibling string
		}{{f.sub, "q"}, {f.root, "sib"}} {
			child := supervisor.Child{ID: "x", Start: idle}
			require.NoError(t, second(c.sup.StartChild(ctx, child)))
			require.ErrorIs(t, second(c.sup.StartChild(ctx, child)), supervisor.ErrAlreadyStarted)
			require.ErrorIs(t, second(c.sup.RestartChild(ctx, "x")), supervisor.ErrRunning)
			require.NoError(t, c.sup.TerminateChild(ctx, "x"))
			require.NoError(t, c.sup.DeleteChild(ctx, "x"))
			require.ErrorIs(t, c.sup.TerminateChild(ctx, "x"), supervisor.ErrNotFound)

			require.NoError(t, c.sup.TerminateChild(ctx, c.sibling))
			require.NoError(t, second(c.sup.RestartChild(ctx, c.sibling)))
		}

		require.NoError(t, f.sub.Reload(ctx, f.spec))
		require.NoError(t, f.root.TerminateChild(context.WithoutCancel(ctx), "sib"), "the context is the child's too")
	})
	require.Zero(t, f.root.Tree().InWindow)
}

// Calls about the caller itself that do not wait for its end have answers.
func TestRule22_Rule26_RunningChildNamesItself(t *testing.T) {
	f := newFamily(t)
	f.p.asks(func(ctx context.Context) {
		require.ErrorIs(t, second(f.sub.StartChild(ctx, f.p.child(0))), supervisor.ErrAlreadyStarted)
		require.ErrorIs(t, second(f.sub.RestartChild(ctx, "p")), supervisor.ErrRunning)
		require.ErrorIs(t, f.sub.DeleteChild(ctx, "p"), supervisor.ErrRunning)
		require.ErrorIs(t, second(f.root.RestartChild(ctx, "sub")), supervisor.ErrRunning)
		require.ErrorIs(t, f.root.DeleteChild(ctx, "sub"), supervisor.ErrRunning)
		require.NoError(t, supervisor.Revive(ctx, f.sub, "p"), "it runs")

		require.NotEmpty(t, f.root.Tree().Children) // snapshots are not calls
		require.NoError(t, second(f.sub.WhichChildren()))
	})
}

// A call that waits for the end of its own caller is refused, and the caller lives on.
func TestSelfCall_WouldDeadlock(t *testing.T) {
	f := newFamily(t)
	f.p.asks(func(ctx context.Context) {
		for _, ctx := range []context.Context{ctx, context.WithoutCancel(ctx)} {
			require.ErrorIs(t, f.sub.TerminateChild(ctx, "p"), supervisor.ErrWouldDeadlock)
			require.ErrorIs(t, f.root.TerminateChild(ctx, "sub"), supervisor.ErrWouldDeadlock)
			require.ErrorIs(t, supervisor.Recycle(ctx, f.sub, "p"), supervisor.ErrWouldDeadlock)
			require.ErrorIs(t, f.sub.Stop(ctx), supervisor.ErrWouldDeadlock)
			require.ErrorIs(t, f.root.Stop(ctx), supervisor.ErrWouldDeadlock)
		}
		require.NoError(t, ctx.Err())
	})
	require.Equal(t, supervisor.Running, state(t, f.sub, "p"))
}

// The supervisor is busy with a start until that is acknowledged. A caller in that start is refused
// by the supervisors that wait for it, and by no other.
func TestSelfCall_InAStart(t *testing.T) {
	f := newFamily(t)
	got := make(chan error, 9)
	early := supervisor.Child{ID: "early", Ack: supervisor.AckReady,
		Start: func(ctx context.Context) (supervisor.Service, error) {
			got <- second(f.sub.StartChild(ctx, supervisor.Child{ID: "x", Start: idle}))
			got <- second(f.root.StartChild(ctx, supervisor.Child{ID: "x", Start: idle}))
			return supervisor.ServiceFunc(func(ctx context.Context) error {
				got <- f.sub.TerminateChild(context.WithoutCancel(ctx), "q")
				supervisor.Ready(ctx)
				got <- f.sub.TerminateChild(ctx, "q")
				<-ctx.Done()
				return ctx.Err()
			}), nil
		}}
	require.NoError(t, second(f.sub.StartChild(ctx, early)))

	require.ErrorIs(t, <-got, supervisor.ErrWouldDeadlock, "in its start")
	require.NoError(t, <-got, "the root does not wait for it")
	require.ErrorIs(t, <-got, supervisor.ErrWouldDeadlock, "before it is ready")
	require.NoError(t, <-got)
}

// A child that runs, below a supervisor that is still starting, is served when that start is over:
// the start does not wait for it.
func TestSelfCall_BelowAStart(t *testing.T) {
	called, got := make(chan struct{}), make(chan error, 1)
	var top *supervisor.Supervisor

	caller := supervisor.Child{ID: "caller", Start: func(context.Context) (supervisor.Service, error) {
		return supervisor.ServiceFunc(func(ctx context.Context) error {
			close(called)
			got <- second(top.StartChild(ctx, supervisor.Child{ID: "x", Start: idle}))
			<-ctx.Done()
			return ctx.Err()
		}), nil
	}}
	slow := supervisor.Child{ID: "slow", Start: func(ctx context.Context) (supervisor.Service, error) {
		<-called
		return idle(ctx)
	}}
	mid, err := supervisor.New(supervisor.Spec{Build: children(caller, slow)})
	require.NoError(t, err)
	top, err = supervisor.New(supervisor.Spec{Build: children(supervisor.Child{ID: "mid",
		Start: func(context.Context) (supervisor.Service, error) { return mid, nil }})})
	require.NoError(t, err)

	r, err := top.Start(ctx)
	require.NoError(t, err)
	require.NoError(t, <-got)
	require.NoError(t, r.Stop(ctx))
}

// Build runs while its supervisor waits for it: at the start, and in a reload.
func TestSelfCall_InBuild(t *testing.T) {
	got := make(chan error, 2)
	var kept context.Context
	var s *supervisor.Supervisor
	spec := supervisor.Spec{Build: func(ctx context.Context) ([]supervisor.Child, error) {
		kept = ctx
		got <- second(s.StartChild(ctx, supervisor.Child{ID: "x", Start: idle}))
		return nil, nil
	}}
	s, err := supervisor.New(spec)
	require.NoError(t, err)
	r, err := s.Start(ctx)
	require.NoError(t, err)
	require.ErrorIs(t, <-got, supervisor.ErrWouldDeadlock)

	require.NoError(t, r.Reload(ctx, spec))
	require.ErrorIs(t, <-got, supervisor.ErrWouldDeadlock)
	require.NoError(t, second(r.StartChild(kept, supervisor.Child{ID: "x", Start: idle})), "Build has returned")
	require.NoError(t, r.Stop(ctx))
}

// A child that its supervisor stops, and that calls it with a context that is not cancelled, would
// wait until its shutdown time is over: for a call made before the stop and for one made after.
func TestSelfCall_InAStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFamily(t)
		slow := newHang("slow")
		require.NoError(t, second(f.sub.StartChild(ctx, slow.child(0, supervisor.Wait))))
		got := make(chan error, 3)
		f.p.do(func(ctx context.Context) error {
			detached := context.WithoutCancel(ctx)
			go func() { got <- second(f.sub.StartChild(detached, supervisor.Child{ID: "y", Start: idle})) }()
			<-ctx.Done()
			got <- f.sub.TerminateChild(detached, "q")
			got <- second(f.root.StartChild(detached, supervisor.Child{ID: "x", Start: idle}))
			return ctx.Err()
		})
		go func() { _ = f.sub.TerminateChild(ctx, "slow") }() // keeps the supervisor busy
		synctest.Wait()
		began := time.Now()
		require.NoError(t, f.root.Kill("sub/q", errReason)) // served after the stop
		go func() { _ = f.sub.TerminateChild(ctx, "p") }()
		close(slow.release)

		errs := []error{<-got, <-got, <-got}
		require.Zero(t, time.Since(began), "no timeout was needed")
		require.NoError(t, errs[len(errs)-1], "the root does not wait for the caller")
	})
}

// Of two children that stop each other, one is stopped, and the other lives on.
func TestSelfCall_TwoStopEachOther(t *testing.T) {
	for range 20 {
		f := newFamily(t)
		got := make(chan error, 2)
		var both sync.WaitGroup // a child that is stopped before its order would never take it
		both.Add(2)
		for _, x := range []struct {
			from *probe
			id   string
		}{{f.p, "q"}, {f.q, "p"}} {
			x.from.do(func(ctx context.Context) error {
				both.Done()
				both.Wait()
				got <- f.sub.TerminateChild(context.WithoutCancel(ctx), x.id)
				return x.from.serve(ctx)
			})
		}
		one, other := <-got, <-got
		if one == nil {
			one, other = other, one
		}
		require.ErrorIs(t, one, supervisor.ErrWouldDeadlock)
		require.NoError(t, other)
	}
}

// A partition may resize its own supervisor, unless it would be stopped for that.
func TestSelfCall_Resize(t *testing.T) {
	got := make(chan error, 2)
	var p *supervisor.Partition
	p, err := supervisor.NewPartition(supervisor.PartitionSpec{Name: "p", Partitions: 3,
		Start: func(_ context.Context, i int) (supervisor.Service, error) {
			return supervisor.ServiceFunc(func(ctx context.Context) error {
				if i == 1 {
					got <- p.Resize(ctx, 1)
					got <- p.Resize(ctx, 2)
				}
				<-ctx.Done()
				return ctx.Err()
			}), nil
		}})
	require.NoError(t, err)
	r, err := p.Start(ctx)
	require.NoError(t, err)
	require.ErrorIs(t, <-got, supervisor.ErrWouldDeadlock)
	require.NoError(t, <-got)
	require.Equal(t, 2, p.Partitions())
	require.Equal(t, supervisor.Running, state(t, r, "1"))
	require.NoError(t, r.Stop(ctx))
}
