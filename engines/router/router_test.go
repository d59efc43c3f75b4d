package router_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/router"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sleep is a call that is answered after the time d.
type sleep struct{ d time.Duration }

func (sleep) Answer(struct{}) {}

// hold is a cast that keeps the engine busy until it is released.
type hold chan struct{}

// engine returns the spec of an engine that handles sleep and hold.
func engine(name string) engines.Spec {
	return engines.Spec{Name: name, Init: func(_ context.Context, s *engines.Server) error {
		engines.OnCall(s, func(_ context.Context, q sleep, from engines.From[struct{}]) error {
			<-time.After(q.d)
			from.Reply(struct{}{})
			return nil
		})
		engines.OnCast(s, func(_ context.Context, h hold) error { <-h; return nil })
		return nil
	}}
}

// tree runs body in a bubble, with a router and two engines, a and b, that restart independently.
func tree(t *testing.T, dir *router.Directory, body func(t *testing.T, run *supervisor.Run)) {
	suptest.Run(t, supervisor.Spec{
		Name: "test", Intensity: supervisor.Intensity{Max: 10, Period: time.Hour},
		Build: supervisor.Children(
			supervisor.Child{ID: "router", Start: router.Child(dir)},
			supervisor.Child{ID: "a", Start: engine("a").Start(dir)},
			supervisor.Child{ID: "b", Start: engine("b").Start(dir)},
		),
	}, func(t *testing.T, run *supervisor.Run, _ *suptest.Recorder) { body(t, run) })
}

// found holds the results of Await.
type found struct {
	box *engines.Mailbox
	err error
}

// await calls Await in a goroutine. It returns once Await waits or has returned.
func await(ctx context.Context, dir *router.Directory, name string, after uint64) <-chan found {
	out := make(chan found, 1)
	go func() {
		box, err := dir.Await(ctx, name, after)
		out <- found{box, err}
	}()
	synctest.Wait()
	return out
}

func requireDown(t *testing.T, err error, engine string, incarnation uint64) {
	t.Helper()
	down := new(engines.DownError)
	require.ErrorAs(t, err, &down)
	require.Equal(t, engine, down.Engine)
	require.Equal(t, incarnation, down.Incarnation)
}

// Before a router has started, every call of a directory fails, and none waits.
func TestNothingIsUpBeforeARouter(t *testing.T) {
	dir := router.NewDirectory()
	_, err := dir.Resolve("a")
	requireDown(t, err, "a", 0)
	require.ErrorContains(t, err, "no router has started")
	_, err = dir.Await(t.Context(), "a", 0)
	requireDown(t, err, "a", 0)
	_, err = engine("a").Start(dir)(t.Context())
	requireDown(t, err, "a", 0)
	require.Empty(t, dir.Table().List())
}

func TestResolveFindsTheLivingIncarnation(t *testing.T) {
	dir := router.NewDirectory()
	tree(t, dir, func(t *testing.T, run *supervisor.Run) {
		box, err := dir.Resolve("a")
		require.NoError(t, err)
		require.Equal(t, "a", box.Name())
		_, err = dir.Resolve("nobody")
		requireDown(t, err, "nobody", 0)

		require.NoError(t, run.TerminateChild(t.Context(), "a"))
		_, err = dir.Resolve("a")
		requireDown(t, err, "a", box.Incarnation())

		_, err = run.RestartChild(t.Context(), "a")
		require.NoError(t, err)
		next, err := dir.Resolve("a")
		require.NoError(t, err)
		require.Greater(t, next.Incarnation(), box.Incarnation())
	})
}

// Await returns the address of a running engine. It waits for a name without an engine, for an
// engine that has ended, and for an incarnation after a given one.
func TestAwait(t *testing.T) {
	dir := router.NewDirectory()
	tree(t, dir, func(t *testing.T, run *supervisor.Run) {
		box, err := dir.Await(t.Context(), "a", 0)
		require.NoError(t, err)

		late := await(t.Context(), dir, "late", 0)
		next := await(t.Context(), dir, "a", box.Incarnation())
		require.Empty(t, late)
		require.Empty(t, next, "the running incarnation does not come after itself")

		require.NoError(t, run.TerminateChild(t.Context(), "a"))
		again := await(t.Context(), dir, "a", 0)
		require.Empty(t, again)

		_, err = run.RestartChild(t.Context(), "a")
		require.NoError(t, err)
		got := <-next
		require.NoError(t, got.err)
		require.Greater(t, got.box.Incarnation(), box.Incarnation())
		require.Equal(t, got, <-again)
		require.Empty(t, late, "another engine started")

		_, err = run.StartChild(t.Context(), supervisor.Child{ID: "late", Start: engine("late").Start(dir)})
		require.NoError(t, err)
		require.NoError(t, (<-late).err)
	})
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	dir := router.NewDirectory()
	tree(t, dir, func(t *testing.T, _ *supervisor.Run) {
		enough := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		waits := await(ctx, dir, "nobody", 0)
		cancel(enough)
		err := (<-waits).err
		require.ErrorIs(t, err, enough)
		require.ErrorContains(t, err, "nobody")
	})
}

// I5: a mailbox is registered once, and not after the mailbox of a newer incarnation.
func TestOnlyANewerIncarnationIsRegistered(t *testing.T) {
	dir := router.NewDirectory()
	tree(t, dir, func(t *testing.T, run *supervisor.Run) {
		old, err := dir.Resolve("a")
		require.NoError(t, err)
		require.ErrorContains(t, dir.Register(old), "is not newer")

		require.NoError(t, run.Kill("a", errors.New("by hand")))
		synctest.Wait()
		now, err := dir.Resolve("a")
		require.NoError(t, err)
		require.NotSame(t, old, now)
		require.ErrorContains(t, dir.Register(old), "is not newer")

		still, err := dir.Resolve("a")
		require.NoError(t, err)
		require.Same(t, now, still)
	})
}

// The death of a router takes every name in its table down for ever, with the reason. The table of
// its successor is empty. It refuses engines that started before it, and accepts those that start
// after it.
func TestTheDeathOfTheRouter(t *testing.T) {
	dir := router.NewDirectory()
	tree(t, dir, func(t *testing.T, run *supervisor.Run) {
		table := dir.Table()
		box, err := dir.Resolve("a")
		require.NoError(t, err)
		waits := await(t.Context(), dir, "nobody", 0)

		require.NoError(t, run.TerminateChild(t.Context(), "router"))
		require.ErrorIs(t, (<-waits).err, router.ErrRouterDown)
		_, err = dir.Resolve("a")
		requireDown(t, err, "a", 0)
		require.ErrorIs(t, err, router.ErrRouterDown)
		require.ErrorIs(t, dir.Register(box), router.ErrRouterDown)

		_, err = run.RestartChild(t.Context(), "router")
		require.NoError(t, err)
		require.NotSame(t, table, dir.Table())
		_, err = table.Resolve("a")
		require.ErrorIs(t, err, router.ErrRouterDown, "its own table stays down")
		_, err = dir.Resolve("a")
		requireDown(t, err, "a", 0)
		require.ErrorContains(t, dir.Register(box), "is older than this table")

		next := await(t.Context(), dir, "a", 0)
		require.NoError(t, run.Kill("a", errors.New("by hand")))
		require.NoError(t, (<-next).err)
	})
}

func TestList(t *testing.T) {
	dir := router.NewDirectory()
	tree(t, dir, func(t *testing.T, run *supervisor.Run) {
		a := engines.NewAddress(dir, "a")
		release := make(hold)
		require.NoError(t, engines.Cast(t.Context(), a, release))
		synctest.Wait()
		require.NoError(t, engines.Cast(t.Context(), a, release))
		require.NoError(t, run.TerminateChild(t.Context(), "b"))
		<-time.After(time.Minute)

		list := dir.Table().List()
		require.Len(t, list, 3)
		for i, name := range []string{"a", "b", router.Name} {
			require.Equal(t, name, list[i].Name)
			require.Equal(t, name != "b", list[i].Up)
			require.NotZero(t, list[i].Incarnation)
		}

		require.Equal(t, 1, list[0].Waiting, "the engine handles one message")
		require.GreaterOrEqual(t, list[0].Oldest, time.Minute)
		require.Zero(t, list[2].Oldest)
		close(release)
	})
}

// The table forgets the engines that ended, except for the last ones, and keeps no mailbox of
// those.
func TestNamesAreForgotten(t *testing.T) {
	dir := router.NewDirectory()
	tree(t, dir, func(t *testing.T, run *supervisor.Run) {
		const lives = 3 * router.RememberedNames
		for n := range lives {
			name := fmt.Sprintf("session %d", n)
			_, err := run.StartChild(t.Context(), supervisor.Child{ID: name, Restart: supervisor.Temporary,
				Start: engine(name).Start(dir)})
			require.NoError(t, err)
			require.NoError(t, run.TerminateChild(t.Context(), name))
		}

		require.Len(t, dir.Table().List(), router.RememberedNames+3, "and the three that run")
		_, err := dir.Resolve("session 0")
		requireDown(t, err, "session 0", 0)
		_, err = dir.Resolve(fmt.Sprintf("session %d", lives-1))
		require.ErrorContains(t, err, "ended")
		require.NotContains(t, err.Error(), "it has not started")

		// a name that comes back is not among those that ended
		for range 2 * router.RememberedNames {
			require.NoError(t, run.TerminateChild(t.Context(), "a"))
			_, err = run.RestartChild(t.Context(), "a")
			require.NoError(t, err)
		}

		require.Len(t, dir.Table().List(), router.RememberedNames+2, "only a's own end took a place")
		_, err = dir.Resolve("a")
		require.NoError(t, err)
	})
}

// BenchmarkNames shows the memory that a name leaves behind.
func BenchmarkNames(b *testing.B) {
	dir := router.NewDirectory()
	sup, err := supervisor.New(supervisor.Spec{Build: supervisor.Children(
		supervisor.Child{ID: "router", Start: router.Child(dir)})})
	require.NoError(b, err)
	run, err := sup.Start(context.Background())
	require.NoError(b, err)
	defer run.Stop(context.Background())

	before := heap()
	n := 0
	for b.Loop() {
		name := fmt.Sprintf("session %d", n)
		n++
		_, err := run.StartChild(context.Background(), supervisor.Child{ID: name, Restart: supervisor.Temporary,
			Start: engine(name).Start(dir)})
		require.NoError(b, err)
		require.NoError(b, run.TerminateChild(context.Background(), name))
	}

	b.ReportMetric((heap()-before)/float64(n), "B/name")
}

func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// times records the calls that Measure reports.
type times struct {
	mu   sync.Mutex
	took []float64
}

func (s *times) Observe(seconds float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took = append(s.took, seconds)
}

// Measure reports the time of each answered call, by engine. Without it no time is measured.
func TestMeasure(t *testing.T) {
	require.Nil(t, router.NewDirectory().CallTimes("a"))
	a := new(times)
	dir := router.NewDirectory().Measure(func(engine string) engines.Observer {
		if engine == "a" {
			return a
		}
		return nil
	})

	tree(t, dir, func(t *testing.T, run *supervisor.Run) {
		for _, name := range []string{"a", "b"} {
			_, err := engines.Call(t.Context(), engines.NewAddress(dir, name), sleep{2 * time.Second})
			require.NoError(t, err)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := engines.Call(ctx, engines.NewAddress(dir, "a"), sleep{3 * time.Second})
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
	require.Len(t, a.took, 1, "the abandoned call and b's are not reported")
	require.InDelta(t, 2, a.took[0], 0.01)
}
