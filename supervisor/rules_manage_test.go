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

// child_adm, which_children
func TestRule19_Rule22_Rule24_Rule26_Rule27_Rule29_ChildAdministration(t *testing.T) {
	p := newProbe("p")
	r, _ := tree(t, supervisor.Spec{Build: children(p.child(0))})
	ref := (<-p.starts)
	info, err := r.WhichChild("p")
	require.NoError(t, err)
	require.Equal(t, ref, info.Ref.Incarnation())

	// running
	_, err = r.StartChild(ctx, p.child(0))
	var already *supervisor.AlreadyStartedError
	require.ErrorAs(t, err, &already)
	require.ErrorIs(t, err, supervisor.ErrAlreadyStarted)
	require.Equal(t, info.Ref, already.Ref)
	_, err = r.RestartChild(ctx, "p")
	require.ErrorIs(t, err, supervisor.ErrRunning)
	require.ErrorIs(t, r.DeleteChild(ctx, "p"), supervisor.ErrRunning)

	// stopped
	require.NoError(t, r.TerminateChild(ctx, "p"))
	require.NoError(t, r.TerminateChild(ctx, "p"))
	require.Equal(t, supervisor.NotRunning, state(t, r, "p"))
	require.False(t, info.Ref.Alive())
	_, err = r.StartChild(ctx, p.child(0))
	require.ErrorIs(t, err, supervisor.ErrAlreadyPresent)
	ref2, err := r.RestartChild(ctx, "p")
	require.NoError(t, err)
	require.NotEqual(t, ref, ref2.Incarnation())

	// gone
	require.NoError(t, r.TerminateChild(ctx, "p"))
	require.NoError(t, r.DeleteChild(ctx, "p"))

	for _, err := range []error{
		r.DeleteChild(ctx, "p"), r.TerminateChild(ctx, "p"), second(r.RestartChild(ctx, "p")),
		second(r.WhichChild("p")), r.Kill("p", nil),
		r.Inject(ctx, "p", supervisor.Fault{}), second(r.ChildSpec("p")),
	} {
		require.ErrorIs(t, err, supervisor.ErrNotFound)
	}

	_, err = r.StartChild(ctx, p.child(0))
	require.NoError(t, err)
	require.Zero(t, r.Tree().InWindow) // rule 23, 44: none of this counts
}

func second[T any](_ T, err error) error { return err }

func TestRule20_DynamicallyStartedChildrenAreLast(t *testing.T) {
	a, b := newProbe("a"), newProbe("b")
	r, _ := tree(t, supervisor.Spec{Strategy: supervisor.RestForOne, Build: children(a.child(0))})
	_, err := r.StartChild(ctx, b.child(0))
	require.NoError(t, err)
	require.NoError(t, r.Stop(ctx))
	require.Equal(t, []string{"+a", "+b", "-b", "-a"}, steps(r))
}

// do_not_save_start_parameters_for_temporary_children
func TestRule21_TemporaryStartIsDropped(t *testing.T) {
	r, _ := tree(t, supervisor.Spec{})
	for _, restart := range []supervisor.Restart{supervisor.Permanent, supervisor.Transient, supervisor.Temporary} {
		collected := make(chan struct{})
		func() {
			arg := new([1 << 16]byte)
			runtime.AddCleanup(arg, func(c chan struct{}) { close(c) }, collected)
			_, err := r.StartChild(ctx,
				supervisor.Child{ID: restart.String(), Restart: restart,
					Start: func(ctx context.Context) (supervisor.Service, error) {
						arg[0]++
						return idle(ctx)
					}})
			require.NoError(t, err)
		}()
		c, err := r.ChildSpec(restart.String())
		require.NoError(t, err)
		require.Equal(t, restart == supervisor.Temporary, c.Start == nil)
		if c.Start == nil {
			requireCollected(t, collected)
		}
	}
}

// requireCollected collects garbage until the cleanup has run.
func requireCollected(t *testing.T, collected chan struct{}) {
	t.Helper()
	for range 1000 {
		runtime.GC()
		select {
		case <-collected:
			return
		default:
			runtime.Gosched()
		}
	}

	t.Fatal("the start's argument is still referenced")
}

// already_started_outside_supervisor
func TestRule22_AlreadyStartedElsewhereIsPassedThrough(t *testing.T) {
	r, _ := tree(t, supervisor.Spec{Build: children(supervisor.Child{ID: "a", Start: idle})})
	a, err := r.WhichChild("a")
	require.NoError(t, err)
	_, err = r.StartChild(ctx, supervisor.Child{ID: "b", Start: func(context.Context) (supervisor.Service, error) {
		return nil, &supervisor.AlreadyStartedError{Ref: a.Ref}
	}})
	already, ok := err.(*supervisor.AlreadyStartedError)
	require.True(t, ok, "%T", err)
	require.Equal(t, a.Ref, already.Ref)
}

func TestRule23_Rule44_ManagementNeverCounts(t *testing.T) {
	p := newProbe("p")
	r, _ := tree(t, supervisor.Spec{Intensity: supervisor.Intensity{Period: time.Hour}, Build: children(p.child(0))})

	for range 5 {
		require.NoError(t, r.TerminateChild(ctx, "p"))
		_, err := r.RestartChild(ctx, "p")
		require.NoError(t, err)
		_, err = r.StartChild(ctx,
			supervisor.Child{ID: "bad", Start: func(context.Context) (supervisor.Service, error) {
				return nil, errCrash
			}})
		require.ErrorIs(t, err, errCrash)
	}

	require.Zero(t, r.Tree().InWindow)
}

// sup_start_restart_child_returns_error
func TestRule26_FailedRestartChildStaysStopped(t *testing.T) {
	p := newProbe("p")
	p.before = func(n int) error {
		if n == 2 {
			return errCrash
		}
		return nil
	}
	r, _ := tree(t, supervisor.Spec{Build: children(p.child(0))})
	require.NoError(t, r.TerminateChild(ctx, "p"))
	_, err := r.RestartChild(ctx, "p")
	require.ErrorIs(t, err, errCrash)
	require.Equal(t, supervisor.NotRunning, state(t, r, "p"))
	_, err = r.RestartChild(ctx, "p")
	require.NoError(t, err)
}

// hanging_restart_loop, hanging_restart_loop_rest_for_one: while stuck in retries, calls are served
// between the attempts.
func TestRule22_Rule24_Rule52_Rule53_HangingRestartLoop(t *testing.T) {
	for _, strategy := range []supervisor.Strategy{supervisor.OneForOne, supervisor.RestForOne, supervisor.OneForAll} {
		t.Run(strategy.String(), func(t *testing.T) {
			p := newProbe("p")
			p.before = func(n int) error {
				if n > 1 {
					return errCrash
				}
				return nil
			}
			other := newProbe("other")
			r, w := tree(t, supervisor.Spec{Strategy: strategy, Intensity: many(1 << 30),
				Build: children(other.child(0), p.child(0))})
			<-p.starts
			p.end(errCrash)
			until(t, w, 3, func(e supervisor.ChildStartFailed) bool { return e.Path == "p" })
			_, err := r.StartChild(ctx, p.child(0))
			require.ErrorIs(t, err, supervisor.ErrAlreadyPresent)
			_, err = r.RestartChild(ctx, "p")
			require.ErrorIs(t, err, supervisor.ErrRestarting)
			require.ErrorIs(t, r.DeleteChild(ctx, "p"), supervisor.ErrRestarting)
			require.NoError(t, r.TerminateChild(ctx, "p"))
			attempts := p.began()
			require.NoError(t, r.TerminateChild(ctx, "p"))
			require.Equal(t, attempts, p.began()) // the pending retry was a no-op
			require.Equal(t, supervisor.NotRunning, state(t, r, "p"))
			_, err = r.RestartChild(ctx, "p")
			require.ErrorIs(t, err, errCrash)
			require.NoError(t, r.DeleteChild(ctx, "p"))
		})
	}

	// The stop is served too.
	p := newProbe("p")
	p.before = func(n int) error {
		if n > 1 {
			return errCrash
		}
		return nil
	}
	r, w := tree(t, supervisor.Spec{Intensity: many(1 << 30), Build: children(p.child(0))})
	<-p.starts
	p.end(errCrash)
	until(t, w, 3, func(e supervisor.ChildStartFailed) bool { return e.Path == "p" })
	require.NoError(t, r.Stop(ctx))
}

func TestRule28_WhichChildrenIsNewestFirst(t *testing.T) {
	r, _ := tree(t, supervisor.Spec{Build: children(supervisor.Child{ID: "a", Start: idle},
		nested("b", 0, supervisor.Spec{}), supervisor.Child{ID: "c", Start: idle})})
	list, err := r.WhichChildren()
	require.NoError(t, err)
	var ids []string
	for _, c := range list {
		ids = append(ids, c.ID+" "+c.Kind.String()+" "+c.State.String())
	}

	require.Equal(t, []string{"c worker running", "b supervisor running", "a worker running"}, ids)
}

// count_children
func TestRule30_CountChildren(t *testing.T) {
	p := newProbe("p")
	r, w := tree(t, supervisor.Spec{Build: children(p.child(supervisor.Transient), nested("s", 0, supervisor.Spec{}),
		supervisor.Child{ID: "w", Start: idle})})
	n, err := r.CountChildren()
	require.NoError(t, err)
	require.Equal(t, supervisor.Counts{Specs: 3, Active: 3, Supervisors: 1, Workers: 2}, n)
	<-p.starts
	p.end(nil)
	until(t, w, 1, exitOf("p"))
	require.NoError(t, r.TerminateChild(ctx, "s"))
	n, err = r.CountChildren()
	require.NoError(t, err)
	require.Equal(t, supervisor.Counts{Specs: 3, Active: 1, Supervisors: 1, Workers: 2}, n)
}

// A child that was never started counts as its declared kind; a child that was started counts as
// what it is.
func TestRule30_DeclaredKind(t *testing.T) {
	ignoring := func(context.Context) (supervisor.Service, error) { return nil, supervisor.ErrIgnore }
	r, _ := tree(t, supervisor.Spec{Build: children(
		supervisor.Child{ID: "declared", Kind: supervisor.SupervisorKind, Start: ignoring},
		supervisor.Child{ID: "undeclared", Start: ignoring},
		nested("seen", 0, supervisor.Spec{}),
		supervisor.Child{ID: "foreign", Kind: supervisor.SupervisorKind, Start: idle},
		supervisor.Child{ID: "other", Kind: supervisor.DynamicKind, Start: supervisor.Nested(supervisor.Spec{})},
	)})
	n, err := r.CountChildren()
	require.NoError(t, err)
	require.Equal(t, supervisor.Counts{Specs: 5, Active: 3, Supervisors: 4, Workers: 1}, n)
	require.True(t, r.Tree().Settled())
	other, _ := r.Tree().Find("other")
	require.Equal(t, supervisor.SupervisorKind, other.Kind, "what it is, not what it was called")
	foreign, err := r.ChildSpec("foreign")
	require.NoError(t, err)
	require.Equal(t, []any{supervisor.Infinity, supervisor.DefaultStartTimeout, supervisor.AckStart},
		[]any{foreign.Shutdown, foreign.StartTimeout, foreign.Ack})
	_, err = r.StartChild(ctx, supervisor.Child{ID: "x", Kind: 3, Start: idle})
	require.ErrorContains(t, err, "Kind is Kind(3), expected Worker, SupervisorKind or DynamicKind")
}

// tree: changes by management calls are lost when the supervisor itself is restarted
func TestRule32_BuildIsTheTruth(t *testing.T) {
	a := newProbe("a")
	var sub *supervisor.Supervisor
	r, w := tree(t, supervisor.Spec{
		Build: children(supervisor.Child{ID: "sub", Start: func(context.Context) (_ supervisor.Service, err error) {
			sub, err = supervisor.New(supervisor.Spec{Build: children(a.child(0))})
			return sub, err
		}})})
	_, err := sub.StartChild(ctx, supervisor.Child{ID: "extra", Start: idle})
	require.NoError(t, err)
	require.NoError(t, sub.TerminateChild(ctx, "a"))
	require.NoError(t, r.Kill("sub", nil))
	until(t, w, 2, at("sub"))
	list, err := sub.WhichChildren()
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, supervisor.Running, list[0].State)
}

func TestRule33_NotRunning(t *testing.T) {
	s, err := supervisor.New(supervisor.Spec{Name: "s"})
	require.NoError(t, err)
	all := func() []error {
		return []error{
			second(s.StartChild(ctx, supervisor.Child{ID: "a", Start: idle})), second(s.RestartChild(ctx, "a")),
			s.TerminateChild(ctx, "a"), s.DeleteChild(ctx, "a"),
			second(s.WhichChildren()), second(s.WhichChild("a")), second(s.CountChildren()), second(s.ChildSpec("a")),
			s.Kill("a", nil),
			s.Inject(ctx, "a", supervisor.Fault{}), s.Stop(ctx), s.Reload(ctx, supervisor.Spec{}), second(s.Run()),
		}
	}

	for _, err := range all() {
		require.ErrorIs(t, err, supervisor.ErrNotRunning)
	}

	require.Empty(t, s.Events())
	require.Empty(t, s.Orphans())
	require.Equal(t, supervisor.NotRunning, s.Tree().State)
	old, err := s.Start(ctx)
	require.NoError(t, err)
	require.NoError(t, s.Stop(ctx))
	for _, err := range all() {
		require.ErrorIs(t, err, supervisor.ErrNotRunning)
	}

	r, err := s.Start(ctx)
	require.NoError(t, err)

	// A handle of a run that is over does not become valid again.
	for _, err := range []error{second(old.StartChild(ctx, supervisor.Child{ID: "a", Start: idle})),
		second(old.WhichChildren()), second(old.CountChildren()), second(old.WhichChild("a")), old.Kill("", nil)} {
		require.ErrorIs(t, err, supervisor.ErrNotRunning)
	}

	require.NoError(t, r.Stop(ctx))
}

// A call whose caller leaves before its turn has no effect. A caller that leaves during its turn is
// told that the call continues.
func TestCallersMayLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		r, _ := tree(t, supervisor.Spec{})
		begun := make(chan error, 2)
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()

		go func() {
			_, err := r.StartChild(short,
				supervisor.Child{ID: "slow", Start: func(ctx context.Context) (supervisor.Service, error) {
					<-gate
					return idle(ctx)
				}})
			begun <- err
		}()

		synctest.Wait()
		go func() { begun <- second(r.StartChild(short, supervisor.Child{ID: "never", Start: idle})) }()
		for range 2 {
			require.ErrorIs(t, <-begun, context.DeadlineExceeded)
		}

		close(gate)
		require.NoError(t, second(r.StartChild(ctx, supervisor.Child{ID: "next", Start: idle})))
		list, err := r.WhichChildren()
		require.NoError(t, err)
		require.Len(t, list, 2)
		gone, cancel2 := context.WithCancel(ctx)
		cancel2()
		require.ErrorIs(t, r.DeleteChild(gone, "next"), context.Canceled)

		// A call that waits when the supervisor ends is refused.
		hold := make(chan struct{})
		go func() {
			begun <- second(r.StartChild(ctx,
				supervisor.Child{ID: "hold", Start: func(ctx context.Context) (supervisor.Service, error) {
					close(hold)
					<-ctx.Done()
					return nil, ctx.Err()
				}}))
		}()

		<-hold
		go func() { begun <- r.TerminateChild(ctx, "next") }()
		synctest.Wait()
		require.NoError(t, r.Stop(ctx))
		first, other := <-begun, <-begun
		require.True(t, errors.Is(first, supervisor.ErrNotRunning) || errors.Is(other, supervisor.ErrNotRunning),
			"%v, %v", first, other)
	})
}

// A failed start is the child's last exit. A start that returned ErrIgnore is not.
func TestRule26_LastExitOfAFailedStart(t *testing.T) {
	var answer error
	p := supervisor.Child{ID: "p", Start: func(ctx context.Context) (supervisor.Service, error) {
		if answer != nil {
			return nil, answer
		}
		return idle(ctx)
	}}
	r, _ := tree(t, supervisor.Spec{Build: children(p)})
	require.NoError(t, r.TerminateChild(ctx, "p"))

	for _, answer = range []error{supervisor.ErrIgnore, errCrash, supervisor.ErrIgnore} {
		_, err := r.RestartChild(ctx, "p")
		require.Equal(t, answer == errCrash, err != nil)
		n, _ := r.Tree().Find("p")
		require.Equal(t, answer == errCrash,
			errors.Is(n.LastExit.Err, errCrash) && n.LastExit.Class == supervisor.Abnormal)
		answer = nil
		_, err = r.RestartChild(ctx, "p")
		require.NoError(t, err)
		require.NoError(t, r.TerminateChild(ctx, "p"))
	}
}
