package supervisor_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
)

// trio starts three permanent probes under a strategy. since returns the history from after their
// start.
func trio(t *testing.T, s supervisor.Strategy, more ...supervisor.Child) (a, b, c *probe, r *supervisor.Run,
	since func() []string) {
	a, b, c = newProbe("a"), newProbe("b"), newProbe("c")
	r, w := tree(t, supervisor.Spec{Strategy: s, Intensity: many(3),
		Build: children(append([]supervisor.Child{a.child(0), b.child(0), c.child(0)}, more...)...)})

	for _, p := range []*probe{a, b, c} {
		<-p.starts
	}

	n := len(steps(r))
	return a, b, c, r, func() []string {
		w.Settle(t, r)
		return steps(r)[n:]
	}
}

func TestRule48_OneForOne(t *testing.T) {
	a, b, c, r, since := trio(t, supervisor.OneForOne)
	b.end(errCrash)
	<-b.starts
	require.Equal(t, []string{"!b", "+b"}, since())
	list, err := r.WhichChildren()
	require.NoError(t, err)
	require.Equal(t, "b", list[1].ID) // its place is unchanged
	require.Equal(t, 2, a.began()+c.began())
}

// rest_for_one, order_of_children
func TestRule49_RestForOne(t *testing.T) {
	a, b, _, _, since := trio(t, supervisor.RestForOne)
	b.end(errCrash)
	<-b.starts
	require.Equal(t, []string{"!b", "-c", "+b", "+c"}, since())
	require.Equal(t, 1, a.began())
}

// one_for_all
func TestRule50_OneForAll(t *testing.T) {
	_, b, _, r, since := trio(t, supervisor.OneForAll)
	b.end(errCrash)
	<-b.starts
	require.Equal(t, []string{"!b", "-c", "-a", "+a", "+b", "+c"}, since())
	require.Equal(t, 1, r.Tree().InWindow) // rule 42: once
	n, err := r.CountChildren()
	require.NoError(t, err)
	require.Equal(t, supervisor.Counts{Specs: 3, Active: 3, Workers: 3}, n)
}

// E 2, temporary_bystander
func TestRule51_WhoComesBackInAGroupRestart(t *testing.T) {
	done := newProbe("done")
	ignored := 0
	ignoring := supervisor.Child{ID: "ignoring", Start: func(ctx context.Context) (supervisor.Service, error) {
		if ignored++; ignored == 1 {
			return nil, supervisor.ErrIgnore
		}
		return idle(ctx)
	}}

	_, b, _, r, since := trio(t, supervisor.OneForAll,
		supervisor.Child{ID: "temporary", Start: idle, Restart: supervisor.Temporary},
		done.child(supervisor.Transient), ignoring)
	<-done.starts
	endNow(t, r, done, nil)
	require.NoError(t, r.TerminateChild(ctx, "a"))
	b.end(errCrash)
	<-done.starts
	got := since()
	require.Equal(t, []string{"!done", "-a", "!b", "-temporary", "-c", "+a", "+b", "+c", "+done", "+ignoring"}, got)
	_, err := r.WhichChild("temporary")
	require.ErrorIs(t, err, supervisor.ErrNotFound)

	for _, e := range r.Events() {
		if x, ok := e.(supervisor.ChildExited); ok && x.Reported {
			require.Equal(t, "b", x.Path) // only the offender is reported
		}
		_, unclean := e.(supervisor.ShutdownError)
		require.False(t, unclean, "%v", e) // a bystander only if it does not stop cleanly
	}
}

// rest_for_one_other_child_fails_restart, E 7
func TestRule52_RestForOneRetriesFromTheFailedChild(t *testing.T) {
	_, b, c, _, since := trio(t, supervisor.RestForOne, supervisor.Child{ID: "d", Start: idle})
	c.before = func(n int) error {
		if n == 2 {
			return errCrash
		}
		return nil
	}
	b.end(errCrash)
	<-c.starts
	require.Equal(t, []string{"!b", "-d", "-c", "+b", "?c", "+c", "+d"}, since())
	require.Equal(t, 2, b.began())
}

// one_for_all_other_child_fails_restart, E 6
func TestRule52_OneForAllStopsWhatHadStartedBeforeTheRetry(t *testing.T) {
	a, b, c, r, since := trio(t, supervisor.OneForAll)
	b.before = func(n int) error {
		if n == 2 {
			return errCrash
		}
		return nil
	}
	c.end(errCrash)
	<-c.starts
	require.Equal(t, []string{"!c", "-b", "-a", "+a", "?b", "-a", "+a", "+b", "+c"}, since())
	require.Equal(t, 2, r.Tree().InWindow)
	require.Equal(t, 3, a.began())
}

// one_for_all_escalation, rest_for_one_escalation
func TestRule52_Escalation(t *testing.T) {
	for _, s := range []supervisor.Strategy{supervisor.OneForAll, supervisor.RestForOne} {
		a, _, c, r, _ := trio(t, s)
		c.before = func(int) error { return errCrash }
		a.end(errCrash)
		err := r.Wait()
		require.ErrorIs(t, err, supervisor.ErrMaxIntensity)
		var g *supervisor.GiveUpError
		require.ErrorAs(t, err, &g)
		require.Equal(t, "c", g.Offender)
		require.Equal(t, 4, c.began()) // the first, and three attempts
	}
}

// A retry whose child another group restart has brought back does nothing.
func TestRule53_StaleRetry(t *testing.T) {
	a, b, c, r, since := trio(t, supervisor.RestForOne)
	fails := make(chan struct{}, 1)
	c.before = func(n int) error {
		if n == 2 {
			// Before the retry of c is in the mailbox, a has ended. Its exit is served first, and
			// brings c back.
			info, err := r.WhichChild("a")
			require.NoError(t, err)
			a.end(errCrash)
			<-supervisor.Monitor(info.Ref)
			fails <- struct{}{}
			return errCrash
		}
		return nil
	}
	b.end(errCrash)
	<-fails
	<-c.starts
	require.Equal(t, []string{"!b", "-c", "+b", "?c", "!a", "-b", "+a", "+b", "+c"}, since())
	require.ErrorIs(t, r.DeleteChild(ctx, "c"), supervisor.ErrRunning)
	require.Equal(t, 2, r.Tree().InWindow)
	require.Equal(t, 3, c.began())
}

// Two failures of one child before the first retry has its turn are two retries, and both count, as
// in OTP. The attempt that exceeds the limit is served before messages that arrived in between.
func TestRule53_TwoRetries(t *testing.T) {
	a, b, c := newProbe("a"), newProbe("b"), newProbe("c")
	r, w := tree(t, supervisor.Spec{Strategy: supervisor.RestForOne, Intensity: many(3),
		Build: children(a.child(0), b.child(0), c.child(0))})
	<-a.starts
	<-b.starts
	<-c.starts
	c.before = func(n int) error {
		switch n {
		case 2: // b's exit is in the mailbox before the retry
			endNow(t, r, b, errCrash)
			return errCrash
		case 3: // in b's restart; a's exit comes after the first retry, before the second
			endNow(t, r, a, errCrash)
			return errCrash
		}
		return nil
	}
	c.end(errCrash)
	// The attempts are those of c, of b, and the first retry of c. That of a is one too many.
	var gaveUp *supervisor.GiveUpError
	require.ErrorAs(t, r.Wait(), &gaveUp)
	require.Equal(t, "a", gaveUp.Offender)
	require.Equal(t, []string{"+a", "+b", "+c", "!c", "?c", "!b", "+b", "?c", "+c", "!a", "-c", "-b"}, steps(r))
	require.Equal(t, 4, c.began())
	require.Equal(t, 3, counted[supervisor.RestartScheduled](t, r, w))
}

func TestRule54_IgnoreDuringARestart(t *testing.T) {
	_, b, _, r, since := trio(t, supervisor.OneForOne)
	b.before = func(int) error { return supervisor.ErrIgnore }
	endNow(t, r, b, errCrash)
	require.ErrorIs(t, r.DeleteChild(ctx, "a"), supervisor.ErrRunning)
	require.Equal(t, []string{"!b", "0b"}, since())
	require.Equal(t, supervisor.NotRunning, state(t, r, "b"))
	require.Equal(t, 2, b.began())
}

// tree: three levels, an isolated restart, an escalation that restarts the subtree and nothing else
func TestTree_ThreeLevels(t *testing.T) {
	leaf, mate, out := newProbe("leaf"), newProbe("mate"), newProbe("out")
	r, w := tree(t, supervisor.Spec{Name: "root", Intensity: many(1), Build: children(
		out.child(0), nested("mid", 0, supervisor.Spec{Strategy: supervisor.OneForAll, Intensity: many(1),
			Build: children(
				nested("low", 0, supervisor.Spec{Intensity: many(1), Build: children(leaf.child(0), mate.child(0))}),
			)}),
	)})
	<-leaf.starts
	leaf.end(errCrash) // low allows one
	<-leaf.starts
	require.Equal(t, 1, mate.began())
	leaf.end(errCrash) // the second ends low, which mid allows
	<-leaf.starts
	until(t, w, 2, at("mid/low"))
	w.Settle(t, r)
	require.Equal(t, 2, mate.began())
	require.Equal(t, 1, mustFind(t, r, "mid").InWindow)
	require.Zero(t, r.Tree().InWindow)
	require.Equal(t, 1, out.began())
	require.Contains(t, r.Tree().String(), `root  running  one_for_one 1 in 1h0m0s
├── out  running
└── mid  running  one_for_all 1 in 1h0m0s
    └── low  running  one_for_one 1 in 1h0m0s  restarts 1
        ├── leaf  running
        └── mate  running
`)
	_, found := r.Tree().Find("mid/none")
	require.False(t, found)
}

// TerminateChild touches no other child. The children that a group restart has stopped come back,
// even if the child for whose delay they wait is terminated, or the strategy is no longer that of a
// group (rules 48 and 81; the delay itself is not OTP's).
func TestGroupComesBackWithoutItsDelayedChild(t *testing.T) {
	for _, strategy := range []supervisor.Strategy{supervisor.OneForAll, supervisor.RestForOne} {
		for _, how := range []string{"terminate", "reload", "terminate another too"} {
			synctest.Test(t, func(t *testing.T) {
				a, b, c := newProbe("a"), newProbe("b"), newProbe("c")
				delayed := a.child(0)
				delayed.Backoff = supervisor.Backoff{Min: 10 * time.Second}
				spec := supervisor.Spec{Strategy: strategy, Intensity: many(9),
					Build: children(delayed, b.child(0), c.child(0))}
				r, w := tree(t, spec)
				require.NoError(t, r.Kill("a", nil))
				synctest.Wait()
				require.Equal(t, supervisor.Restarting, state(t, r, "a"))
				want := map[string]supervisor.State{"a": supervisor.NotRunning, "b": supervisor.Running,
					"c": supervisor.Running}

				switch how {
				case "reload":
					spec.Strategy = supervisor.OneForOne
					require.NoError(t, r.Reload(ctx, spec))
					until(t, w, 2, at("a"))
					want["a"] = supervisor.Running

				case "terminate another too":
					require.NoError(t, r.TerminateChild(ctx, "b"))
					want["b"] = supervisor.NotRunning
					fallthrough

				default:
					require.NoError(t, r.TerminateChild(ctx, "a"))
				}

				synctest.Wait()

				for id, state := range want {
					n, _ := w.Settle(t, r).Find(id)
					require.Equal(t, state, n.State, "%v, %s: %s", strategy, how, id)
				}

				require.NoError(t, r.Stop(ctx))
			})
		}
	}
}

// meetsStop has a group of a and b restart, and expects that b is not started again: the start of
// a, which began wraps, meets the end of their supervisor, which stop asks for.
func meetsStop(t *testing.T, ack supervisor.Ack, began func(a *probe, s supervisor.Service, stop func(),
	life context.Context) (supervisor.Service, error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a, b := newProbe("a"), newProbe("b")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		c := a.child(0)
		c.Ack = ack
		start := c.Start
		c.Start = func(life context.Context) (supervisor.Service, error) {
			s, err := start(life)
			if err != nil {
				return nil, err
			}
			return began(a, s, cancel, life)
		}
		s, err := supervisor.New(supervisor.Spec{Strategy: supervisor.OneForAll, Intensity: many(5),
			Build: children(c, b.child(0))})
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() { done <- s.Serve(ctx) }()
		synctest.Wait()
		b.end(errCrash)
		<-done
		require.Equal(t, 2, a.began())
		require.Equal(t, 1, b.began())
	})
}

// A group restart that meets the end of its supervisor starts no more children.
func TestAGroupRestartThatMeetsTheStopStartsNoMore(t *testing.T) {
	meetsStop(t, supervisor.AckStart, func(a *probe, s supervisor.Service, stop func(), life context.Context) (
		supervisor.Service, error) {
		if a.began() < 2 {
			return s, nil
		}
		stop()
		<-life.Done()
		return nil, supervisor.ErrIgnore
	})
}

// A row that is being started ends with the child whose start met the end of its supervisor, also
// if that child acknowledges.
func TestARowThatMeetsTheStopStartsNoMore(t *testing.T) {
	meetsStop(t, supervisor.AckReady, func(a *probe, s supervisor.Service, stop func(), _ context.Context) (
		supervisor.Service, error) {
		return supervisor.ServiceFunc(func(ctx context.Context) error {
			if a.began() == 2 {
				stop()
				<-time.After(time.Millisecond) // until the supervisor knows
			}
			supervisor.Ready(ctx)
			return s.Serve(ctx)
		}), nil
	})
}
