package supervisor

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The window gives the same result as the rule in its plainest form: the number of attempts,
// including this one, that are no older than the period.
func TestRule39_Rule40_WindowModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := Intensity{Max: rapid.IntRange(0, 5).Draw(t, "max"),
			Period: time.Duration(rapid.IntRange(1, 20).Draw(t, "period"))}
		now := time.Now()
		var w window
		var all []time.Time

		for _, gap := range rapid.SliceOfN(rapid.IntRange(0, 12), 1, 60).Draw(t, "gaps") {
			now = now.Add(time.Duration(gap))
			all = append(all, now)
			want := 0

			for _, at := range all {
				if now.Sub(at) <= limit.Period {
					want++
				}
			}

			n, ok := w.add(now, limit)
			if n != want || ok != (want <= limit.Max) || w.count(now, limit.Period) != want {
				t.Fatalf("%d, %v; want %d", n, ok, want)
			}
			if len(w.at) != want {
				t.Fatalf("%d attempts are remembered, %d are in the window", len(w.at), want)
			}
		}
	})
}

func TestRule48_Rule49_Rule50_Rule51_PlanProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		restarts := rapid.SliceOfN(rapid.SampledFrom([]Restart{Permanent, Transient, Temporary}), 1,
			12).Draw(t, "restarts")
		members := make([]member, len(restarts))
		for i, r := range restarts {
			members[i] = member{restart: r}
		}

		failed := rapid.IntRange(0, len(members)-1).Draw(t, "failed")
		members[failed].restart = Permanent // a temporary child is never restarted
		s := rapid.SampledFrom([]Strategy{OneForOne, OneForAll, RestForOne}).Draw(t, "strategy")
		p := planRestart(s, members, failed)
		in := func(i int) bool { return i == failed || s == OneForAll || (s == RestForOne && i > failed) }

		for i := range members {
			if slices.Contains(p.stop, i) != (in(i) && i != failed) {
				t.Fatalf("stop %v of %d", p.stop, i)
			}
			if slices.Contains(p.start, i) != (in(i) && members[i].restart != Temporary) {
				t.Fatalf("start %v of %d", p.start, i)
			}
			if slices.Contains(p.forget, i) != (in(i) && members[i].restart == Temporary) {
				t.Fatalf("forget %v of %d", p.forget, i)
			}
		}

		if !slices.IsSorted(p.start) || !slices.IsSortedFunc(p.stop, func(a, b int) int { return b - a }) {
			t.Fatalf("order: %+v", p)
		}
	})
}

// Every combination, with OTP's result. The two rows where Go differs are marked.
func TestRule58_QuietStopTable(t *testing.T) {
	const minute = time.Minute
	for _, c := range []struct {
		restart  Restart
		shutdown time.Duration
		exit     Exit
		quiet    bool
	}{
		{Permanent, minute, Exit{Class: Shutdown, Stopped: true}, true},
		{Permanent, minute, Exit{Class: Shutdown}, true},              // OTP reports {shutdown, _}
		{Permanent, minute, Exit{Class: Normal, Stopped: true}, true}, // OTP reports it
		{Permanent, minute, Exit{Class: Normal}, false},
		{Transient, minute, Exit{Class: Normal}, true},
		{Temporary, minute, Exit{Class: Shutdown}, true},
		{Temporary, minute, Exit{Class: Abnormal, Stopped: true}, false},
		{Temporary, minute, Exit{Class: Abnormal, Killed: true}, false},
		{Transient, minute, Exit{Class: Shutdown, Orphaned: true}, false},
		{Permanent, Brutal, Exit{Class: Abnormal, Stopped: true}, true},
		{Permanent, Brutal, Exit{Class: Abnormal, Killed: true}, true},
		{Permanent, Brutal, Exit{Class: Abnormal}, false},
		{Permanent, Brutal, Exit{Class: Normal}, false},
		{Permanent, Brutal, Exit{Class: Shutdown}, false},
		{Permanent, Brutal, Exit{Class: Abnormal, Stopped: true, Orphaned: true}, false},
		{Transient, Brutal, Exit{Class: Shutdown}, true},
		{Temporary, Brutal, Exit{Class: Normal}, true},
	} {
		require.Equal(t, c.quiet, quietStop(c.restart, c.shutdown, &c.exit), "%v", c)
	}
}

func TestRule66_AutoShutdownTable(t *testing.T) {
	alive := member{significant: true, alive: true}
	ended := member{significant: true}
	plain := member{alive: true}
	require.False(t, autoShutdown(Never, nil))
	require.True(t, autoShutdown(AnySignificant, []member{alive}))
	require.False(t, autoShutdown(AllSignificant, []member{plain, alive}))
	require.True(t, autoShutdown(AllSignificant, []member{plain, ended}))
}

func TestBackoffDelay(t *testing.T) {
	require.Zero(t, Backoff{}.delay(1, 0.5))
	require.Zero(t, Backoff{}.delay(5000, 0.5), "a row so long that the power is infinite")
	require.Equal(t, time.Minute, Backoff{Min: time.Second, Max: time.Minute}.delay(5000, 0.5))
	require.Zero(t, Backoff{}.delay(5, .9))
	b := Backoff{Min: 10, Max: 100, Factor: 3, Jitter: .5}
	require.Equal(t, []time.Duration{10, 30, 90, 100, 100},
		[]time.Duration{b.delay(1, 0), b.delay(2, 0), b.delay(3, 0), b.delay(4, 0), b.delay(500, 0)})
	require.Equal(t, time.Duration(125), b.delay(9, .5))
	require.Equal(t, time.Duration(10), Backoff{Min: 10}.delay(7, 0))
	require.Equal(t, time.Duration(math.MaxInt64), Backoff{Min: math.MaxInt64}.delay(1, 0),
		"which as a float is one more than a Duration can hold")
}

func TestWithin(t *testing.T) {
	for _, c := range []struct {
		path, prefix string
		want         bool
	}{{"a/b", "", true}, {"a/b", "a", true}, {"a", "a", true}, {"ab", "a", false}, {"", "a", false}} {
		require.Equal(t, c.want, within(c.path, c.prefix), c)
	}
}

// Every event and every name has a text of its own.
func TestStrings(t *testing.T) {
	exit := Exit{Class: Abnormal, Err: ErrKilled}
	h := Header{Root: "root", Path: "a"}
	seen := map[string]bool{}

	for _, e := range []Event{
		SupervisorStarted{Header: h}, SupervisorStopped{Header: h}, SupervisorStopped{Header: h, Err: ErrKilled},
		ChildStarting{h}, ChildStarted{Header: h},
		ChildStartFailed{Header: h, Err: ErrKilled}, ChildIgnored{h}, ChildExited{Header: h, Exit: exit},
		ChildStopped{Header: h, Exit: exit},
		ShutdownError{Header: h, Exit: exit, Count: 1}, ShutdownError{Header: h, Exit: exit, Count: 2},
		RestartScheduled{Header: h}, GroupRestart{Header: h},
		GaveUp{Header: h, Err: &GiveUpError{Cause: ErrOrphan}},
		AutoShutdownTriggered{Header: h, Err: &AutoShutdownError{}}, ChildOrphaned{Header: h}, OrphanEnded{Header: h},
		Killed{Header: h, Reason: ErrKilled}, FaultInjected{Header: h}, Reloaded{h}, Warned{Header: h},
		EventsDropped{Header: h}, ObserverFailed{Header: h},
	} {
		e.isEvent()
		require.Regexp(t, "^a: .", e.String())
		require.False(t, seen[e.String()], e)
		seen[e.String()] = true
	}

	require.Equal(t, "root", Header{Root: "root"}.Subject())

	for _, s := range []fmt.Stringer{Wait, AllSignificant, AckReady, RestForOne, Temporary, Abnormal,
		DynamicKind, Stopping} {
		require.NotContains(t, s.String(), "(")
	}

	require.Equal(t, "Class(9)", Class(9).String())
	require.Equal(t, "normal", Exit{}.String())
	require.NoError(t, Exit{}.Error())
	require.Equal(t, "abnormal", Exit{Class: Abnormal}.String())
	require.Equal(t, ErrShutdown, Exit{Class: Shutdown}.Error())
	require.Equal(t, "stopped", Exit{Class: Shutdown, Err: ErrKilled, Stopped: true}.String())
	require.Contains(t, (&AlreadyStartedError{}).Error(), "already started")
	require.Contains(t, (&GiveUpError{Supervisor: "s", Offender: "s/p", Cause: ErrOrphan}).Error(),
		"supervisor s gave up: s/p did not end")
	require.False(t, (&GiveUpError{Cause: ErrOrphan}).As(new(*StartError)))
}
