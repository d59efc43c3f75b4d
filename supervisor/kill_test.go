package supervisor_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
)

func TestKill(t *testing.T) {
	leaf, mate, own := newProbe("leaf"), newProbe("mate"), newProbe("own")
	r, w := tree(t, supervisor.Spec{Name: "root", Intensity: many(20), Build: children(
		own.child(0), nested("sub", 0,
			supervisor.Spec{Intensity: many(20), Build: children(leaf.child(0), mate.child(0))}),
	)})
	first := <-leaf.starts
	leaf.do(func(ctx context.Context) error { // whatever it returns
		<-ctx.Done()
		require.ErrorIs(t, context.Cause(ctx), supervisor.ErrKilled)
		require.Equal(t, first, supervisor.Incarnation(ctx))
		require.Equal(t, "sub/leaf", supervisor.Path(ctx))
		return nil
	})
	require.NoError(t, r.Kill("sub/leaf", errReason))
	e := until(t, w, 1, exitOf("sub/leaf"))
	require.Equal(t, supervisor.Abnormal, e.Exit.Class)
	require.ErrorIs(t, e.Exit.Err, supervisor.ErrKilled)
	require.ErrorIs(t, e.Exit.Err, errReason)
	<-leaf.starts

	// A supervisor: an ordered stop, with that reason.
	require.NoError(t, r.Kill("sub", errReason))
	e = until(t, w, 1, exitOf("sub"))
	require.Equal(t, supervisor.Abnormal, e.Exit.Class)
	require.ErrorIs(t, e.Exit.Err, errReason)
	<-leaf.starts
	until(t, w, 2, at("sub"))
	history := steps(r)
	require.Equal(t, []string{"-sub/mate", "-sub/leaf", "!sub", "+sub/leaf", "+sub/mate", "+sub"},
		history[len(history)-6:])
	require.ErrorIs(t, r.Kill("own/x", nil), supervisor.ErrNotFound)

	// The root itself.
	require.NoError(t, r.Kill("", nil))
	require.ErrorIs(t, r.Wait(), supervisor.ErrKilled)
	require.ErrorIs(t, r.Kill("", nil), supervisor.ErrNotRunning)
}

// Kill reaches a child whose start hangs, and its siblings during that start. Snapshots work then
// too.
func TestKill_DuringAHangingStart(t *testing.T) {
	p := newProbe("p")
	r, w := tree(t, supervisor.Spec{Intensity: many(9), Build: children(p.child(0))})
	<-p.starts
	begun := make(chan struct{})
	failed := make(chan error)
	go func() {
		_, err := r.StartChild(ctx, supervisor.Child{ID: "hung", StartTimeout: supervisor.Infinity,
			Start: func(ctx context.Context) (supervisor.Service, error) {
				close(begun)
				<-ctx.Done()
				return nil, ctx.Err()
			}})
		failed <- err
	}()

	<-begun
	require.Equal(t, supervisor.Starting, mustFind(t, r, "hung").State)
	require.False(t, r.Tree().Settled())
	info, err := r.WhichChild("p")
	require.NoError(t, err)
	require.NoError(t, r.Kill("p", nil))
	<-supervisor.Monitor(info.Ref) // it ends, while its supervisor waits
	require.NoError(t, r.Kill("hung", errReason))
	err = <-failed
	require.ErrorIs(t, err, supervisor.ErrKilled)
	require.ErrorIs(t, err, errReason)
	<-p.starts
	until(t, w, 2, at("p"))
}

// A kill is the exit's reason. If the child then did more than obey, that is in the exit too.
func TestKill_AndWhatTheChildDidThen(t *testing.T) {
	why := errors.New("why")
	for name, c := range map[string]struct {
		then  func(context.Context) error
		check func(supervisor.Exit)
	}{
		"obey": {func(ctx context.Context) error { return ctx.Err() }, func(e supervisor.Exit) {
			require.Equal(t, "killed: why", e.Err.Error())
			require.False(t, e.Goexit)
			require.Nil(t, e.Panic)
		}},
		"fail": {func(context.Context) error {
			return errCrash
		}, func(e supervisor.Exit) { require.Equal(t, "killed: why", e.Err.Error()) }},
		"panic": {func(context.Context) error { panic(errCrash) }, func(e supervisor.Exit) {
			require.Equal(t, "killed: why; then panic: crash", e.Err.Error())
			require.Equal(t, errCrash, e.Panic)
			require.NotEmpty(t, e.Stack)
		}},
		"goexit": {func(context.Context) error { runtime.Goexit(); return nil }, func(e supervisor.Exit) {
			require.ErrorIs(t, e.Err, supervisor.ErrGoexit)
			require.True(t, e.Goexit)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProbe("p")
			r, w := tree(t, supervisor.Spec{Build: children(p.child(supervisor.Transient))})
			<-p.starts
			p.do(func(ctx context.Context) error { <-ctx.Done(); return c.then(ctx) })
			require.NoError(t, r.Kill("p", why))
			e := until(t, w, 1, exitOf("p")).Exit
			require.Equal(t, supervisor.Abnormal, e.Class)
			require.True(t, e.Killed)
			require.ErrorIs(t, e.Err, why)
			require.ErrorIs(t, e.Err, supervisor.ErrKilled)
			c.check(e)
			<-p.starts
		})
	}
}

// A child that Kill told to end is stopping, and the tree is not settled until its supervisor has
// handled the exit. In WhichChildren its state does not change until it has ended (OTP rule 28).
func TestKilledIsStopping(t *testing.T) {
	release := map[string]chan struct{}{"h": make(chan struct{}), "d/x": make(chan struct{})}
	slow := supervisor.Start(func(ctx context.Context) error {
		<-ctx.Done()
		<-release[supervisor.Path(ctx)]
		return ctx.Err()
	})

	d, err := supervisor.NewDynamic(supervisor.DynamicSpec[int]{Name: "d", Intensity: many(9),
		Start: func(ctx context.Context, _ int) (supervisor.Service, error) {
			return slow(ctx)
		}})
	require.NoError(t, err)
	r, w := tree(t, supervisor.Spec{Intensity: many(9), Build: children(supervisor.Child{ID: "h", Start: slow},
		supervisor.Child{ID: "d", Start: func(context.Context) (supervisor.Service, error) { return d, nil }})})
	_, err = d.StartChild(ctx, "x", 1)
	require.NoError(t, err)

	for _, path := range []string{"h", "d/x"} {
		before, ok := w.Settle(t, r).Find(path)
		require.True(t, ok)
		require.Equal(t, supervisor.Running, before.State)
		require.NoError(t, r.Kill(path, nil))
		snapshot := r.Tree()
		killed, _ := snapshot.Find(path)
		require.Equal(t, supervisor.Stopping, killed.State)
		require.Equal(t, before.Incarnation, killed.Incarnation)
		require.False(t, snapshot.Settled())

		if path == "h" {
			require.Equal(t, supervisor.Running, state(t, r, "h"))
		} else {
			require.Equal(t, supervisor.Running, state(t, d, "x"))
			n, _ := snapshot.Find("d")
			require.Zero(t, n.InstancesRunning)
		}

		close(release[path])
		after, _ := w.Settle(t, r).Find(path)
		require.Greater(t, after.Incarnation, before.Incarnation)
	}

	require.NoError(t, r.Stop(ctx))
}

func TestInject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := supervisor.Child{ID: "soft", Start: supervisor.Start(func(ctx context.Context) error {
			for {
				select {
				case f := <-supervisor.Faults(ctx):
					f.Do(ctx)
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		})}
		p := newProbe("hard")
		r, w := tree(t, supervisor.Spec{Build: children(c, p.child(0))})
		require.NoError(t, r.Inject(ctx, "soft", supervisor.Fault{Name: "boom", Do: func(context.Context) {
			panic("injected")
		}}))
		require.Equal(t, "boom", until[supervisor.FaultInjected](t, w, 1, nil).Fault)
		require.Equal(t, "injected", until(t, w, 1, exitOf("soft")).Exit.Panic)
		begin := time.Now()
		require.ErrorIs(t, r.Inject(ctx, "hard", supervisor.Fault{Do: func(context.Context) {}}),
			supervisor.ErrNotInjectable)
		require.Equal(t, supervisor.InjectTimeout, time.Since(begin))
		require.ErrorIs(t, r.Inject(ctx, "soft", supervisor.Fault{Name: "nothing"}), supervisor.ErrNotInjectable)
		gone, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()

		require.ErrorIs(t, r.Inject(gone, "hard", supervisor.Fault{Do: func(context.Context) {}}),
			context.DeadlineExceeded)
		// An incarnation that is ending takes no fault.
		<-p.starts
		gate := make(chan struct{})
		p.do(func(ctx context.Context) error { <-ctx.Done(); <-gate; return ctx.Err() })
		require.NoError(t, r.Kill("hard", nil))
		require.ErrorContains(t, r.Inject(ctx, "hard", supervisor.Fault{Do: func(context.Context) {}}), "it is ending")
		close(gate)
	})
}
