package pubsub

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

// world is a running bus, as the root of a tree.
type world struct {
	t   *testing.T
	bus *Bus[note]
	run *supervisor.Run
}

// inBubble runs a test in a bubble of fake time, with a bus that is up. synctest.Wait shows it that
// nothing is under way.
func inBubble(t *testing.T, o Options, test func(w world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		bus, err := New[note](o)
		require.NoError(t, err)
		s, err := supervisor.New(bus.Spec())
		require.NoError(t, err)
		run, err := s.Start(context.Background())
		require.NoError(t, err)
		defer func() { _ = run.Stop(context.Background()) }()

		require.NoError(t, bus.WaitUp(context.Background()))
		test(world{t, bus, run})
	})
}

func (w world) subscribe(chain Chain[note], policy Policy) *Subscription[note] {
	w.t.Helper()
	s, err := w.bus.Subscribe(context.Background(), chain, policy)
	require.NoError(w.t, err)
	return s
}

// publish publishes notes 1 to n of kind "k" and path "p".
func (w world) publish(from, to int) {
	w.t.Helper()
	for i := from; i <= to; i++ {
		require.NoError(w.t, w.bus.Publish(note{"k", "p", i}))
	}
}

// quiet waits until everything that was published has been delivered or dropped.
func (w world) quiet() { synctest.Wait() }

// inject makes the child at path take the fault.
func (w world) inject(path string, f supervisor.Fault) {
	w.t.Helper()
	require.NoError(w.t, w.run.Inject(context.Background(), path, f))
	w.quiet()
}

// hang makes the child at path stop handling messages, and ignore its context, until it is
// released.
func (w world) hang(path string) (release func()) {
	held := make(chan struct{})
	w.inject(path, supervisor.Fault{Name: "hang", Do: func(context.Context) { <-held }})
	return func() { close(held) }
}

// read reads what there is. It returns the numbers of the events, with the count of each gap as a
// negative number in its place, and the end, if there is one.
func read(s *Subscription[note]) (got []int, end error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	nothing := errors.New("nothing more")
	cancel(nothing)

	for e, err := range s.All(ctx) {
		var gap *Gap
		switch {
		case errors.As(err, &gap):
			got = append(got, -int(gap.Missed))
		case err == nothing:
		case err != nil:
			end = err
		default:
			got = append(got, e.seq)
		}
	}

	return got, end
}

func seq(from, to int) (s []int) {
	for i := from; i <= to; i++ {
		s = append(s, i)
	}
	return s
}

// chains returns the chains of the running agents, as Stats reports them.
func (w world) chains() []string {
	var chains []string
	for _, a := range w.bus.Stats().Agents {
		chains = append(chains, a.Chain)
	}
	return chains
}

// instances returns how many agents the supervisor counts.
func (w world) instances() int {
	w.t.Helper()
	filters, ok := w.run.Tree().Find(filtersID)
	require.True(w.t, ok)
	return filters.Instances
}

var errBoom = errors.New("boom")

// deaths are the ways in which a child can end without having been asked to.
var deaths = []supervisor.Fault{
	{Name: "panic with an error", Do: func(context.Context) { panic(errBoom) }},
	{Name: "panic with a value", Do: func(context.Context) { panic("boom") }},
	{Name: "goexit", Do: func(context.Context) { runtime.Goexit() }},
}

// pass lets fake time pass.
func pass(d time.Duration) { <-time.After(d) }
