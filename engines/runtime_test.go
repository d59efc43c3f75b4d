package engines_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/router"
	"github.com/coppice-go/coppice/supervisor"
)

// The messages of the engine under test.
type (
	add   struct{ n int }
	total struct{}
	keep  struct{} // never answered
	fail  struct{ err error }
	crash struct{}
	quit  struct{}
	later struct{ n int }
	block struct{ entered, release chan struct{} }
)

func (total) Answer(int)      {}
func (keep) Answer(int)       {}
func (fail) Answer(int)       {}
func (later) Answer(int)      {}
func (block) Answer(struct{}) {}

// rig is a tree with a router and a counting engine.
type rig struct {
	table   *router.Directory
	counter engines.Address
	run     *supervisor.Run
	inits   chan uint64   // the incarnation of each counter that started
	kept    chan struct{} // receives when a keep was taken
}

func start(t *testing.T, spec engines.Spec, limit int) *rig {
	t.Helper()
	r := &rig{table: router.NewDirectory(), inits: make(chan uint64, 100), kept: make(chan struct{}, 100)}
	r.counter = engines.NewAddress(r.table, "counter")
	spec.Name = "counter"
	spec.Init = func(_ context.Context, s *engines.Server) error {
		n := 0
		engines.OnCast(s, func(_ context.Context, m add) error { n += m.n; return nil })
		engines.OnCall(s, func(_ context.Context, _ total, from engines.From[int]) error { from.Reply(n); return nil })
		engines.OnCall(s, func(_ context.Context, _ keep, _ engines.From[int]) error {
			r.kept <- struct{}{}
			return nil
		})

		engines.OnCall(s, func(_ context.Context, m fail, from engines.From[int]) error {
			from.Fail(m.err)
			return nil
		})
		engines.OnCast(s, func(context.Context, crash) error { panic("crash was asked for") })
		engines.OnCast(s, func(context.Context, quit) error { return errors.New("quit was asked for") })
		engines.OnCall(s, func(_ context.Context, m later, from engines.From[int]) error {
			go func() { s.Post(func() { from.Reply(m.n) }) }()
			return nil
		})
		engines.OnCast(s, func(_ context.Context, f func()) error { f(); return nil })
		engines.OnCall(s, func(_ context.Context, m block, from engines.From[struct{}]) error {
			close(m.entered)
			<-m.release
			from.Reply(struct{}{})
			return nil
		})
		r.inits <- s.Incarnation()

		return nil
	}

	sup, err := supervisor.New(supervisor.Spec{
		Name: "test", Intensity: supervisor.Intensity{Max: limit, Period: time.Hour},
		Build: supervisor.Children(
			supervisor.Child{ID: "router", Start: router.Child(r.table)},
			supervisor.Child{ID: "counter", Start: spec.Start(r.table)},
		),
	})
	require.NoError(t, err)
	r.run, err = sup.Start(context.Background())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.run.Stop(context.Background())) })
	<-r.inits

	return r
}

func TestCallsAndCastsOfOneSenderKeepTheirOrder(t *testing.T) {
	r := start(t, engines.Spec{}, 0)
	for i := 1; i <= 100; i++ {
		require.NoError(t, engines.Cast(t.Context(), r.counter, add{i}))
	}
	n, err := engines.Call(t.Context(), r.counter, total{})
	require.NoError(t, err)
	require.Equal(t, 5050, n)
}

func TestAnswerMayComeLaterFromElsewhere(t *testing.T) {
	r := start(t, engines.Spec{}, 0)
	n, err := engines.Call(t.Context(), r.counter, later{7})
	require.NoError(t, err)
	require.Equal(t, 7, n)
}

func TestAnErrorForTheCallerLeavesTheEngineAlone(t *testing.T) {
	r := start(t, engines.Spec{}, 0)
	mine := errors.New("not enough")
	_, err := engines.Call(t.Context(), r.counter, fail{mine})
	require.ErrorIs(t, err, mine)
	_, err = engines.Call(t.Context(), r.counter, total{})
	require.NoError(t, err)
}

type stranger struct{}

func (stranger) Answer(int) {}

func TestAMessageNobodyTakesIsItsCallersFault(t *testing.T) {
	r := start(t, engines.Spec{}, 0)
	_, err := engines.Call(t.Context(), r.counter, stranger{})
	require.ErrorIs(t, err, engines.ErrUnknownMessage)
	require.ErrorContains(t, err, "stranger")
	_, err = engines.Call(t.Context(), r.counter, total{})
	require.NoError(t, err)
}

// The death of the callee reaches its callers at once, with its exit, and not as a timeout.
func TestCallersLearnOfTheDeathOfTheirCallee(t *testing.T) {
	for name, blow := range map[string]any{"panic": crash{}, "error": quit{}} {
		t.Run(name, func(t *testing.T) {
			r := start(t, engines.Spec{}, 1)
			failed := make(chan error, 1)
			go func() {
				_, err := engines.Call(context.Background(), r.counter, keep{})
				failed <- err
			}()

			<-r.kept
			require.NoError(t, engines.Cast(t.Context(), r.counter, blow))
			var down *engines.DownError
			err := <-failed
			require.ErrorAs(t, err, &down)
			require.True(t, down.Delivered)
			require.ErrorIs(t, err, engines.ErrDown)
			require.Equal(t, "counter", down.Engine)
		})
	}
}

func TestPatience(t *testing.T) {
	r := start(t, engines.Spec{}, 10)
	require.NoError(t, r.run.TerminateChild(t.Context(), "counter"))

	_, err := engines.Call(t.Context(), r.counter, total{})
	var down *engines.DownError
	require.ErrorAs(t, err, &down)
	require.False(t, down.Delivered, "the message was certainly not handled")

	answered := make(chan error, 1)
	go func() {
		_, err := engines.Call(context.Background(), r.counter.With(engines.AwaitNext), total{})
		answered <- err
	}()

	_, err = r.run.RestartChild(t.Context(), "counter")
	require.NoError(t, err)
	require.NoError(t, <-answered)

	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, r.run.TerminateChild(t.Context(), "counter"))
	cancel()
	_, err = engines.Call(ctx, r.counter.With(engines.Resend), total{})
	require.ErrorIs(t, err, context.Canceled)
}

// An answer may be that another engine is down. That is not the end of the callee, for whose next
// incarnation a patient caller waits.
func TestAnAnswerIsNotTheEndOfTheCallee(t *testing.T) {
	bubble(t, func(t *testing.T, dir *router.Directory, run *supervisor.Run) {
		for _, p := range []engines.Patience{engines.FailFast, engines.AwaitNext, engines.Resend} {
			require.NoError(t, run.TerminateChild(t.Context(), "b"))
			passes := ask{func(ctx context.Context) error { return call(ctx, dir, "b", nothing) }}
			_, err := engines.Call(t.Context(), engines.NewAddress(dir, "a").With(p), passes)
			down := new(engines.DownError)
			require.ErrorAs(t, err, &down)
			require.Equal(t, "b", down.Engine)

			_, err = run.RestartChild(t.Context(), "b")
			require.NoError(t, err)
		}
	}, willing("a", 1), willing("b", 1))
}

// With Resend, a call that was taken by an incarnation that died goes to the next incarnation.
func TestResend(t *testing.T) {
	r := start(t, engines.Spec{}, 10)
	entered, release := make(chan struct{}), make(chan struct{})
	answered := make(chan error, 1)
	go func() {
		_, err := engines.Call(context.Background(), r.counter.With(engines.Resend), block{entered, release})
		answered <- err
	}()

	<-entered
	require.NoError(t, r.run.Kill("counter", errors.New("by hand")))
	close(release)
	// The first incarnation may have answered before it saw its end, or the second one may have
	// panicked when it closed entered again. In any case no ErrDown reaches the caller.
	require.NotErrorIs(t, <-answered, engines.ErrDown)
}

// I5: no message reaches a replaced incarnation, and none of its registrations comes back.
func TestAReplacedIncarnationIsOutOfReach(t *testing.T) {
	r := start(t, engines.Spec{}, 10)
	old, err := r.table.Resolve("counter")
	require.NoError(t, err)
	require.NoError(t, r.run.Kill("counter", errors.New("by hand")))
	<-r.inits
	<-old.Done()
	require.Error(t, r.table.Register(old))
	now, err := r.table.Resolve("counter")
	if err == nil {
		require.Greater(t, now.Incarnation(), old.Incarnation())
	}
}

// The router's table ends with its incarnation: all names are down for ever, with the reason.
func TestTheRoutersDeathTakesEveryAddressDown(t *testing.T) {
	r := start(t, engines.Spec{}, 10)
	require.NoError(t, r.run.TerminateChild(t.Context(), "router"))
	_, err := engines.Call(t.Context(), r.counter.With(engines.AwaitNext), total{})
	require.ErrorIs(t, err, engines.ErrDown)
	require.ErrorIs(t, err, router.ErrRouterDown)
}

// Faults reach an engine that waits for messages, and an engine that waits for another engine.
func TestFaultsReachWaitingEngines(t *testing.T) {
	r := start(t, engines.Spec{}, 10)
	require.NoError(t, r.run.Inject(t.Context(), "counter", supervisor.Fault{Name: "goexit", Do: func(context.Context) {
		runtime.Goexit()
	}}))
	<-r.inits
	require.NoError(t, r.run.Inject(t.Context(), "counter", supervisor.Fault{Name: "panic", Do: func(context.Context) {
		panic("fault")
	}}))
	<-r.inits

	calling := make(chan struct{})
	var once sync.Once
	_, err := r.run.StartChild(t.Context(),
		supervisor.Child{ID: "caller", Restart: supervisor.Temporary,
			Start: supervisor.Start(func(ctx context.Context) error {
				once.Do(func() { close(calling) })
				_, err := engines.Call(ctx, r.counter.With(engines.Resend), keep{})
				return err
			})})
	require.NoError(t, err)
	<-calling
	took := make(chan struct{})
	require.NoError(t, r.run.Inject(t.Context(), "caller", supervisor.Fault{Name: "note", Do: func(context.Context) {
		close(took)
	}}))
	<-took
}

// A full mailbox makes senders wait. The wait of a sender ends with its context.
func TestTheMailboxIsBounded(t *testing.T) {
	r := start(t, engines.Spec{Mailbox: 1}, 10)
	entered, release := make(chan struct{}), make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		engines.Call(context.Background(), r.counter, block{entered, release})
	}()

	<-entered
	require.NoError(t, engines.Cast(t.Context(), r.counter, add{1}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, engines.Cast(ctx, r.counter, add{1}), context.Canceled)
	close(release)
	<-done
}

func BenchmarkCall(b *testing.B) {
	table := router.NewDirectory()
	sup, _ := supervisor.New(supervisor.Spec{Name: "bench",
		Build: supervisor.Children(supervisor.Child{ID: "router", Start: router.Child(table)},
			supervisor.Child{ID: "echo", Start: engines.Spec{
				Name: "echo",
				Init: func(_ context.Context, s *engines.Server) error {
					engines.OnCall(s, func(_ context.Context, _ total, from engines.From[int]) error {
						from.Reply(1)
						return nil
					})
					return nil
				},
			}.Start(table)})})
	run, err := sup.Start(context.Background())
	require.NoError(b, err)
	defer run.Stop(context.Background())

	to := engines.NewAddress(table, "echo")
	b.ReportAllocs()
	for b.Loop() {
		engines.Call(context.Background(), to, total{})
	}
}
