package suptest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// For each law there is a short history that breaks it.
func TestLaws(t *testing.T) {
	seq := uint64(0)
	h := func(path string, incarnation uint64) supervisor.Header {
		seq++
		return supervisor.Header{Seq: seq, Root: "root", Path: path, Incarnation: incarnation}
	}
	for _, c := range []struct {
		law    string
		events func() []supervisor.Event
	}{
		{"", func() []supervisor.Event {
			return []supervisor.Event{
				supervisor.ChildStarting{Header: h("a", 1)}, supervisor.ChildStarted{Header: h("a", 1)},
				supervisor.SupervisorStarted{Header: h("", 9), Intensity: supervisor.Intensity{Max: 1}},
				supervisor.ChildExited{Header: h("a", 1)}, supervisor.RestartScheduled{Header: h("a", 0), InWindow: 1},
				supervisor.GroupRestart{Header: h("", 9), IDs: []string{"a", "b"}},
				supervisor.ChildStarting{Header: h("a", 2)}, supervisor.ChildIgnored{Header: h("a", 2)},
				supervisor.ChildStarting{Header: h("b", 3)}, supervisor.ChildStartFailed{Header: h("b", 3)},
				supervisor.SupervisorStopped{Header: h("", 9)},
			}
		}},
		{"the event before it was number 1", func() []supervisor.Event {
			first := supervisor.ChildStarting{Header: h("a", 1)}
			seq++
			return []supervisor.Event{first, supervisor.ChildStarted{Header: h("a", 1)}}
		}},
		{"the history does not begin with the beginning", func() []supervisor.Event {
			seq = 4
			return []supervisor.Event{supervisor.Warned{Header: h("", 0)}}
		}},
		{"the history has gaps", func() []supervisor.Event {
			return []supervisor.Event{supervisor.EventsDropped{Count: 3}}
		}},
		{"it is acknowledged twice", func() []supervisor.Event {
			return []supervisor.Event{supervisor.ChildStarting{Header: h("a", 1)},
				supervisor.ChildStarted{Header: h("a", 1)}, supervisor.ChildStarted{Header: h("a", 1)}}
		}},
		{"ended is incarnation 2, started was 1", func() []supervisor.Event {
			return []supervisor.Event{supervisor.ChildStarting{Header: h("a", 1)},
				supervisor.ChildStarted{Header: h("a", 1)}, supervisor.ChildExited{Header: h("a", 2)}}
		}},
		{"acknowledged: false", func() []supervisor.Event {
			return []supervisor.Event{supervisor.ChildStarting{Header: h("a", 1)},
				supervisor.ChildStopped{Header: h("a", 1)}}
		}},
		{"acknowledged: true", func() []supervisor.Event {
			return []supervisor.Event{supervisor.ChildStarting{Header: h("a", 1)},
				supervisor.ChildStarted{Header: h("a", 1)}, supervisor.ChildStartFailed{Header: h("a", 1)}}
		}},
		{"incarnation 1 has not ended", func() []supervisor.Event {
			return []supervisor.Event{supervisor.ChildStarting{Header: h("a", 1)},
				supervisor.ChildStarting{Header: h("a", 2)}}
		}},
		{`the limit of "s" is 1`, func() []supervisor.Event {
			return []supervisor.Event{supervisor.SupervisorStarted{Header: h("s", 1),
				Intensity: supervisor.Intensity{Max: 1}}, supervisor.RestartScheduled{Header: h("s/a", 0), InWindow: 2}}
		}},
		{"next of its group is b", func() []supervisor.Event {
			return []supervisor.Event{supervisor.GroupRestart{Header: h("", 1), IDs: []string{"a", "b", "c"}},
				supervisor.ChildStarting{Header: h("a", 1)}, supervisor.ChildStarting{Header: h("c", 2)}}
		}},
		{"its supervisor has given up or shuts down", func() []supervisor.Event {
			return []supervisor.Event{supervisor.GaveUp{Header: h("s", 1), Err: &supervisor.GiveUpError{}},
				supervisor.ChildStarting{Header: h("s/a", 2)}}
		}},
		{"its supervisor has given up or shuts down", func() []supervisor.Event {
			return []supervisor.Event{supervisor.AutoShutdownTriggered{Header: h("s", 1),
				Err: &supervisor.AutoShutdownError{}}, supervisor.ChildStarting{Header: h("s/a", 2)}}
		}},
		{"s/a, incarnation 2, has not ended", func() []supervisor.Event {
			return []supervisor.Event{supervisor.ChildStarting{Header: h("s/a", 2)},
				supervisor.SupervisorStopped{Header: h("s", 1)}}
		}},
	} {
		seq = 0
		err := suptest.Laws(c.events())
		if c.law == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, c.law)
		require.NotContains(t, err.Error(), "\n", "one law only")
	}
}

// A limit that was reloaded is unknown, and a group that starts after a delay is not checked.
func TestLaws_WhatIsNotKnown(t *testing.T) {
	require.NoError(t, suptest.Laws([]supervisor.Event{
		supervisor.SupervisorStarted{Header: supervisor.Header{Seq: 1, Path: "s"}},
		supervisor.Reloaded{Header: supervisor.Header{Seq: 2, Path: "s"}},
		supervisor.RestartScheduled{Header: supervisor.Header{Seq: 3, Path: "s/a"}, InWindow: 5, Delay: time.Second},
		supervisor.GroupRestart{Header: supervisor.Header{Seq: 4, Path: "s"}, IDs: []string{"a", "b"}},
		supervisor.ChildStarting{Header: supervisor.Header{Seq: 5, Path: "s/c"}},
	}))
}

func TestAssertionsOverTheHistory(t *testing.T) {
	suptest.Run(t, supervisor.Spec{Strategy: supervisor.RestForOne, Build: supervisor.Children(soft("a"), soft("b"))},
		func(t *testing.T, run *supervisor.Run, rec *suptest.Recorder) {
			require.NoError(t, run.Kill("a", nil))
			synctest.Wait()
			abnormal := func(e supervisor.ChildExited) bool { return e.Exit.Class == supervisor.Abnormal }
			suptest.InOrder(t, rec, suptest.Is[supervisor.Killed]("a"), suptest.Is("a", abnormal),
				suptest.Is[supervisor.ChildStopped]("b"), suptest.Is[supervisor.ChildStarted]("a"),
				suptest.Is[supervisor.ChildStarted]("b"))
			suptest.Never[supervisor.GaveUp](t, rec, nil)
			f := &fake{TB: t}
			f.run(func(t testing.TB) {
				suptest.InOrder(t, rec, suptest.Is[supervisor.ChildStopped]("b"), suptest.Is("a", abnormal))
			})

			f.run(func(t testing.TB) {
				suptest.Never(t, rec, func(e supervisor.ChildStopped) bool { return e.Path == "b" })
			})
			require.Len(t, f.said, 2)
			require.Contains(t, f.said[0], "only the first 1 of 2 events")
			require.Contains(t, f.said[1], "there is a supervisor.ChildStopped: b: stopped")
		})
}

// A goroutine that a child started with a plain go statement and left behind is found, with its
// stack, and so is a broken history.
func TestNoLeaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := &fake{TB: t}
		var rec *suptest.Recorder
		f.run(func(tb testing.TB) {
			var run *supervisor.Run
			tb.Cleanup(func() { suptest.NoLeaks(tb, run) }) // after the stop
			run, rec = suptest.Start(tb,
				supervisor.Spec{
					Build: supervisor.Children(supervisor.Child{ID: "leaky",
						Start: supervisor.Start(func(ctx context.Context) error {
							go func() { <-release }()
							<-ctx.Done()
							return ctx.Err()
						})})})
		})
		rec.Observe(supervisor.Warned{Header: supervisor.Header{Seq: 99}, Warning: "from elsewhere"})
		f.end()
		close(release)
		require.Len(t, f.said, 2)
		require.Contains(t, f.said[0], "the event before it was number")
		require.Contains(t, f.said[1], "1 goroutines of the tree are left")
		require.Contains(t, f.said[1], "TestNoLeaks")
	})
}

// forest is a tree with all strategies. Its children take faults, and it tolerates any single
// failure.
func forest() supervisor.Spec {
	few := supervisor.Intensity{Max: 3, Period: time.Minute}
	hard := func(id string) supervisor.Child {
		c := soft(id)
		c.Shutdown, c.Orphan = time.Second, supervisor.Abandon
		return c
	}
	late := hard("late")
	late.Backoff = supervisor.Backoff{Min: time.Second, Jitter: 1}
	pool, err := supervisor.NewDynamic(supervisor.DynamicSpec[string]{Name: "pool", Verbose: true, Intensity: few,
		Shutdown: time.Second, Orphan: supervisor.Abandon,
		Start: func(ctx context.Context, id string) (supervisor.Service, error) { return hard(id).Start(ctx) }})

	if err != nil {
		panic(err)
	}

	filler := supervisor.Child{ID: "filler", Shutdown: time.Second, Orphan: supervisor.Abandon,
		Start: func(ctx context.Context) (supervisor.Service, error) {
			if _, err := pool.StartChild(ctx, "one", "one"); err != nil && !errors.Is(err,
				supervisor.ErrAlreadyStarted) && !errors.Is(err, supervisor.ErrAlreadyPresent) {
				return nil, err
			}
			return hard("filler").Start(ctx)
		}}

	return supervisor.Spec{Name: "forest", Strategy: supervisor.OneForAll, Intensity: few, Build: supervisor.Children(
		hard("first"),
		supervisor.Child{ID: "rest",
			Start: supervisor.Nested(supervisor.Spec{Strategy: supervisor.RestForOne, Intensity: few,
				Build: supervisor.Children(hard("a"), late, hard("z"))})},
		supervisor.Child{ID: "pool", Start: func(context.Context) (supervisor.Service, error) { return pool, nil }},
		filler,
	)}
}

func TestEveryChildAtEveryEvent(t *testing.T) {
	paths := []string{"first", "rest", "rest/a", "rest/late", "rest/z", "pool", "pool/one", "filler"}
	ways := []suptest.Way{suptest.ByKill, suptest.ByHang}
	plays, struck := suptest.EveryChildAtEveryEvent(t,
		suptest.Scenario{Spec: forest, Ways: ways,
			Check: func(t testing.TB, run *supervisor.Run, rec *suptest.Recorder) {
				select {
				case <-run.Done():
					t.Errorf("the tree has ended: %v", run.Err())
					return
				default:
				}
				for _, path := range paths {
					n, ok := run.Tree().Find(path)
					if !ok || n.State != supervisor.Running {
						t.Errorf("%s does not run\n%s", path, run.Tree())
					}
				}
			}})
	events := plays / len(paths) / len(ways)
	require.Equal(t, events*len(paths)*len(ways), plays)
	require.Greater(t, events, 15)
	require.Greater(t, struck, plays/3, "most children are there most of the time")
	t.Logf("%d plays, in %d the child was there", plays, struck)
}

// If the tree of a scenario loses something, the test fails and names the play.
func TestEveryChildAtEveryEvent_FindsWhatOneKillBreaks(t *testing.T) {
	const inner = "SUPTEST_INNER"
	if os.Getenv(inner) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), inner+"=1")
		out, err := cmd.CombinedOutput()
		require.Error(t, err)
		require.Equal(t, 1, strings.Count(string(out), "b is gone"), "it stops at the first: %s", out)
		require.Contains(t, string(out), "in kill b at event ")
		require.Contains(t, string(out), "b: killed: planned failure")
		return
	}

	suptest.EveryChildAtEveryEvent(t, suptest.Scenario{
		Spec: func() supervisor.Spec {
			return supervisor.Spec{
				Build: supervisor.Children(soft("a"),
					supervisor.Child{ID: "b", Restart: supervisor.Temporary, Start: soft("b").Start})}
		},
		Check: func(t testing.TB, run *supervisor.Run, _ *suptest.Recorder) {
			if _, there := run.Tree().Find("b"); !there {
				t.Error("b is gone")
			}
		},
	})
}
