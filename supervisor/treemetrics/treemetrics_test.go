package treemetrics_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
	"github.com/coppice-go/coppice/supervisor/treemetrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// obedient is a service that takes faults and ends when it is told to.
func obedient(ctx context.Context) error {
	for {
		select {
		case f := <-supervisor.Faults(ctx):
			f.Do(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func child(id string) supervisor.Child {
	return supervisor.Child{ID: id, Start: supervisor.Start(obedient)}
}

func ending(err error) func(context.Context) error {
	return func(context.Context) error { return err }
}

// at returns the figures of one path.
func at(t *testing.T, s treemetrics.Snapshot, path string) treemetrics.Figures {
	t.Helper()
	for _, f := range s.Paths {
		if f.Path == path {
			return f
		}
	}
	t.Fatalf("no figures of %q in %+v", path, s.Paths)
	return treemetrics.Figures{}
}

func TestCountersAndGauges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &treemetrics.Metrics{}
		end := make(chan error)
		release := make(chan struct{})
		deaf := child("deaf")
		deaf.Orphan, deaf.Shutdown = supervisor.Abandon, time.Second
		transient := supervisor.Child{ID: "transient", Restart: supervisor.Transient,
			Start: supervisor.Start(func(ctx context.Context) error {
				select {
				case err := <-end:
					return err
				case <-ctx.Done():
					return ctx.Err()
				}
			})}

		failing := supervisor.Child{ID: "failing", Start: func(context.Context) (supervisor.Service, error) {
			return nil, errors.New("no")
		}}

		ignoring := supervisor.Child{ID: "ignoring", Start: func(context.Context) (supervisor.Service, error) {
			return nil, supervisor.ErrIgnore
		}}

		run, _ := suptest.Start(t, supervisor.Spec{
			Name: "root", Strategy: supervisor.RestForOne, Intensity: supervisor.Intensity{Max: 4, Period: time.Minute},
			Observers: []supervisor.Observer{m},
			Build:     supervisor.Children(ignoring, child("a"), deaf, transient),
		})
		require.NoError(t, run.Kill("a", nil))
		synctest.Wait() // a, deaf and transient are restarted
		require.NoError(t, run.Inject(t.Context(), "a", supervisor.Fault{Name: "exit", Do: func(context.Context) {
			runtime.Goexit()
		}}))
		synctest.Wait()
		end <- errors.New("crash")
		synctest.Wait()
		end <- nil
		synctest.Wait()
		_, err := run.StartChild(t.Context(), failing)
		require.Error(t, err)
		require.NoError(t, run.Inject(t.Context(), "deaf", suptest.Hang(release)))
		require.ErrorIs(t, run.TerminateChild(t.Context(), "deaf"), supervisor.ErrOrphan)
		synctest.Wait()

		s := m.Snapshot(run.Tree())
		require.Equal(t, "root", s.Root)
		root := at(t, s, "")
		require.Equal(t, treemetrics.Counters{GroupRestarts: 3, Runs: 1}, root.Counters)
		require.Equal(t, supervisor.SupervisorKind, root.Gauge.Kind)
		require.Equal(t, []int{4, 1, 3, 4}, []int{root.Gauge.Children, root.Gauge.ChildrenRunning, root.Gauge.InWindow,
			root.Gauge.Max})
		require.Equal(t, time.Minute, root.Gauge.Period)
		require.InDelta(t, 0.75, root.Gauge.WindowUse(), 1e-9)

		a := at(t, s, "a")
		require.Equal(t, treemetrics.Counters{Starts: 3, Restarts: 2, Kills: 1, Faults: 1,
			Exits: treemetrics.ExitCounters{Abnormal: 2, Killed: 1, Goexited: 1}}, a.Counters)
		require.Equal(t, []int{1, 1, 0}, []int{a.Gauge.Specified, a.Gauge.Running, a.Gauge.Restarting})
		require.False(t, a.Gauge.Since.IsZero())
		require.Equal(t, treemetrics.Counters{Starts: 4, Restarts: 1, Stops: 2,
			Exits: treemetrics.ExitCounters{Normal: 1, Abnormal: 1}}, at(t, s, "transient").Counters)

		require.Equal(t, treemetrics.Counters{Starts: 3, Stops: 3, ShutdownErrors: 1, Orphans: 1, Faults: 1},
			at(t, s, "deaf").Counters)
		require.Equal(t, treemetrics.Counters{Ignored: 1}, at(t, s, "ignoring").Counters)
		require.Equal(t, treemetrics.Counters{StartFailures: 1}, at(t, s, "failing").Counters)
		require.Nil(t, at(t, s, "failing").Gauge, "it is not in the tree")
		require.EqualValues(t, 1, s.OrphansNow)
		require.EqualValues(t, 3, s.Total.Restarts)

		close(release)
		<-time.After(2 * time.Minute) // in the bubble's time: the attempts leave the window
		s = m.Snapshot(run.Tree())
		require.Zero(t, s.OrphansNow)
		require.EqualValues(t, 1, at(t, s, "deaf").OrphansEnded)
		require.Zero(t, at(t, s, "").Gauge.WindowUse())
	})
}

func TestSupervisorsAndInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &treemetrics.Metrics{}
		var workers *supervisor.Dynamic[func(context.Context) error]
		run, _ := suptest.Start(t,
			supervisor.Spec{Observers: []supervisor.Observer{m},
				Build: func(context.Context) ([]supervisor.Child, error) {
					var err error
					workers, err = supervisor.NewDynamic(supervisor.DynamicSpec[func(context.Context) error]{
						Restart: supervisor.Temporary, Verbose: true,
						Start: func(_ context.Context, f func(context.Context) error) (supervisor.Service, error) {
							return supervisor.ServiceFunc(f), nil
						},
					})

					return []supervisor.Child{
						{ID: "workers",
							Start: func(context.Context) (supervisor.Service, error) { return workers, nil }},
						{ID: "fragile", Restart: supervisor.Transient, Significant: false,
							Start: supervisor.Nested(supervisor.Spec{Intensity: supervisor.Intensity{Period: time.Hour},
								Build: supervisor.Children(child("x"))})},
						{ID: "done", Restart: supervisor.Transient,
							Start: supervisor.Nested(supervisor.Spec{AutoShutdown: supervisor.AnySignificant,
								Build: supervisor.Children(
									supervisor.Child{ID: "x", Restart: supervisor.Transient, Significant: true,
										Start: supervisor.Start(ending(nil))})})},
					}, err
				}})

		for i := range 300 {
			_, err := workers.StartChild(t.Context(), strconv.Itoa(i), obedient)
			require.NoError(t, err)
		}

		for range 3 {
			_, err := workers.StartChild(t.Context(), "", func(context.Context) error { panic("worker") })
			require.NoError(t, err)
		}

		require.NoError(t, run.Kill("fragile/x", nil))
		synctest.Wait()

		s := m.Snapshot(run.Tree())
		all := at(t, s, "workers/"+treemetrics.Instances)
		require.Equal(t, treemetrics.Counters{Starts: 303, Exits: treemetrics.ExitCounters{Abnormal: 3, Panicked: 3}},
			all.Counters)
		require.Equal(t, []int{300, 300}, []int{all.Gauge.Specified, all.Gauge.Running}, "more than a tree lists")
		g := at(t, s, "workers").Gauge
		require.Equal(t, []any{supervisor.DynamicKind, 300, 300}, []any{g.Kind, g.Children, g.ChildrenRunning})
		require.Zero(t, at(t, s, "fragile").Gauge.WindowUse(), "it has given up")
		require.Equal(t, 1.0, (&treemetrics.Gauge{Period: time.Hour}).WindowUse(), "a limit of nothing is used up")
		require.EqualValues(t, 1, at(t, s, "fragile").GiveUps)
		require.EqualValues(t, 1, at(t, s, "done").AutoShutdowns)
	})
}

func TestPathsAreBounded(t *testing.T) {
	m := &treemetrics.Metrics{}
	for i := range 2 * treemetrics.MaxPaths {
		m.Observe(supervisor.ChildStarted{Header: supervisor.Header{Path: fmt.Sprint(i)}})
	}
	s := m.Snapshot()
	require.Len(t, s.Paths, treemetrics.MaxPaths+1)
	require.EqualValues(t, treemetrics.MaxPaths, at(t, s, treemetrics.Other).Starts)
	require.EqualValues(t, 2*treemetrics.MaxPaths, s.Total.Starts)
}

func TestWhatItMissedIsTold(t *testing.T) {
	m := &treemetrics.Metrics{}
	m.Observe(supervisor.EventsDropped{Count: 7})
	m.Observe(supervisor.ObserverFailed{})
	m.Observe(supervisor.OrphanEnded{})
	s := m.Snapshot()
	require.Equal(t, []uint64{7, 1, 0}, []uint64{s.EventsLost, s.ObserversFailed, s.OrphansNow})
}
