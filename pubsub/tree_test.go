package pubsub

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
)

// The tree has the strategies, limits and restart types of design.md.
func TestTreeIsTheOneOfTheDesign(t *testing.T) {
	inBubble(t, Options{}, func(w world) {
		w.subscribe(Chain[note]{kind.Is("k")}, Disconnect{1})
		tree := w.run.Tree()
		require.Equal(t, supervisor.OneForAll, tree.Strategy)
		require.Equal(t, supervisor.Intensity{Max: 3, Period: 10 * time.Second}, tree.Intensity)
		require.Len(t, tree.Children, 3)

		for i, id := range []string{"registry", "broker", "filters"} {
			require.Equal(t, id, tree.Children[i].ID)
			require.Equal(t, supervisor.Permanent, tree.Children[i].Restart)
		}

		filters := tree.Children[2]
		require.Equal(t, supervisor.DynamicKind, filters.Kind)
		require.Zero(t, filters.Intensity.Max)
		require.Equal(t, supervisor.Transient, filters.Children[0].Restart)
		require.Equal(t, "filters/agent-1", filters.Children[0].Path)
	})
}

// I6, and what the design says about subscribers: whichever child ends, and however it ends, all
// children are replaced together. Every subscription learns the reason, and its reader can
// subscribe again.
func TestAnyDeathReplacesTheBusAsOne(t *testing.T) {
	for _, path := range []string{"registry", "broker", "filters/agent-1", "filters/agent-2"} {
		for _, death := range deaths {
			t.Run(path+" by "+death.Name, func(t *testing.T) {
				inBubble(t, Options{}, func(w world) {
					chain := Chain[note]{kind.Is("k"), path_.Is("p")}
					subscriptions := []*Subscription[note]{w.subscribe(all, Disconnect{10}),
						w.subscribe(chain, Disconnect{10})}
					w.publish(1, 3)
					w.quiet()

					w.inject(path, death)

					for _, s := range subscriptions {
						got, end := read(s)
						require.Equal(t, seq(1, 3), got)
						require.ErrorIs(t, end, ErrDown)

						switch death.Name {
						case "goexit":
							require.ErrorContains(t, end, "called runtime.Goexit")
						case "panic with an error":
							require.ErrorIs(t, end, errBoom)
						default:
							require.ErrorContains(t, end, "panic: boom")
						}
					}

					w.restarted(path)

					again, err := w.bus.SubscribeWait(context.Background(), chain, Disconnect{10})
					require.NoError(t, err)
					w.publish(4, 5)
					w.quiet()
					got, end := read(again)
					require.NoError(t, end)
					require.Equal(t, []int{4, 5}, got)
					require.Equal(t, 2, w.instances(), "agents of the old incarnation are gone")
				})
			})
		}
	}
}

const bigPeriod = 11 * time.Second // longer than the period of any limit here

var path_ = path // the name path is a parameter in these tests

// restarted asserts that one death led to one restart of all children together.
func (w world) restarted(offender string) {
	w.t.Helper()
	groups := 0

	for _, e := range w.run.Events() {
		if g, ok := e.(supervisor.GroupRestart); ok {
			groups++
			require.Equal(w.t, []string{"registry", "broker", "filters"}, g.IDs)
		}
	}

	require.Equal(w.t, 1, groups, "one death of %s is one restart", offender)
	require.EqualValues(w.t, 2, w.bus.Stats().Incarnation)
	require.NoError(w.t, w.bus.Stats().Err)
}

func TestKillOfAnyChildReplacesTheBusAsOne(t *testing.T) {
	for _, path := range []string{"registry", "broker", "filters", "filters/agent-1"} {
		t.Run(path, func(t *testing.T) {
			inBubble(t, Options{}, func(w world) {
				s := w.subscribe(Chain[note]{kind.Is("k")}, Disconnect{10})
				require.NoError(t, w.run.Kill(path, errBoom))
				w.quiet()
				_, end := read(s)
				require.ErrorIs(t, end, ErrDown)
				require.ErrorIs(t, end, supervisor.ErrKilled)
				require.ErrorIs(t, end, errBoom, "the end wraps the exit")
				w.restarted(path)
			})
		})
	}
}

// Without a subscriber, the filters have no agent that could end the incarnation.
func TestKillOfEmptyFiltersReplacesTheBusAsOne(t *testing.T) {
	inBubble(t, Options{}, func(w world) {
		s := w.subscribe(all, Disconnect{10})
		require.NoError(t, w.run.Kill(filtersID, errBoom))
		w.quiet()
		_, end := read(s)
		require.ErrorIs(t, end, ErrDown)
		require.ErrorIs(t, end, errBoom)
		w.restarted(filtersID)
	})
}

// A child that hangs and ignores its context becomes an orphan when it is killed. pubsub gives up
// at once, and its parent starts a new pubsub. The orphan delivers to no subscriber (I5).
func TestAHungBrokerIsReplacedByTheLevelAbove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, err := New[note](Options{})
		require.NoError(t, err)
		s, err := supervisor.New(supervisor.Spec{
			Name:  "above",
			Build: supervisor.Children(supervisor.Child{ID: "pubsub", Start: supervisor.Nested(bus.Spec())}),
		})
		require.NoError(t, err)
		run, err := s.Start(context.Background())
		require.NoError(t, err)
		require.NoError(t, bus.WaitUp(context.Background()))
		w := world{t, bus, run}

		before := w.subscribe(all, Disconnect{10})
		release := w.hang("pubsub/broker")
		w.publish(1, 3) // into the mailbox of a broker that hangs
		require.NoError(t, run.Kill("pubsub/broker", errBoom))
		<-before.Done()
		require.ErrorIs(t, before.Err(), ErrDown)
		after, err := bus.SubscribeWait(context.Background(), all, Disconnect{10})
		require.NoError(t, err)
		require.EqualValues(t, 2, bus.Stats().Incarnation)
		require.Len(t, run.Orphans(), 1)

		release()
		w.publish(4, 4)
		w.quiet()
		got, end := read(after)
		require.NoError(t, end)
		require.Equal(t, []int{4}, got, "the orphan's events reach nobody")
		got, _ = read(before)
		require.Empty(t, got)
		require.Empty(t, run.Orphans())
		require.NoError(t, run.Stop(context.Background()))
	})
}

func TestTheBusGivesUpPastItsLimit(t *testing.T) {
	inBubble(t, Options{}, func(w world) {
		for range 3 {
			w.inject(brokerID, deaths[0])
			require.NoError(t, w.bus.WaitUp(context.Background()))
		}

		s := w.subscribe(all, Disconnect{1})
		w.inject(brokerID, deaths[0])
		<-w.run.Done()
		require.ErrorIs(t, w.run.Err(), supervisor.ErrMaxIntensity)
		require.ErrorIs(t, s.Err(), ErrDown)
		require.ErrorIs(t, w.bus.Publish(note{}), errBoom, "the answer says why it is down")
	})
}

func TestAStopEndsEverySubscription(t *testing.T) {
	inBubble(t, Options{}, func(w world) {
		s := w.subscribe(Chain[note]{kind.Is("k")}, Disconnect{1})
		_ = w.run.Stop(context.Background())
		w.quiet()
		require.ErrorIs(t, s.Err(), ErrDown)
		require.ErrorIs(t, w.bus.Publish(note{}), ErrDown)

		for _, e := range w.run.Events() {
			_, bad := e.(supervisor.ShutdownError)
			require.False(t, bad, "every child stops as it is told: %v", e)
		}
	})
}

// A bus may be served again after its end, by another run.
func TestTheBusOutlivesItsRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, err := New[note](Options{})
		require.NoError(t, err)

		for i := range 3 {
			s, err := supervisor.New(bus.Spec())
			require.NoError(t, err)
			run, err := s.Start(context.Background())
			require.NoError(t, err)
			sub, err := bus.SubscribeWait(context.Background(), all, Disconnect{1})
			require.NoError(t, err)
			require.EqualValues(t, i+1, bus.Stats().Incarnation)
			_ = run.Stop(context.Background())
			require.ErrorIs(t, sub.Err(), ErrDown)
		}
	})
}

// An operator may stop and start single children. The bus is never half of one incarnation and half
// of another.
func TestAChildStartedByHandBringsANewIncarnation(t *testing.T) {
	for _, id := range []string{registryID, brokerID, filtersID} {
		for _, chain := range []Chain[note]{all, {kind.Is("k")}} {
			t.Run(fmt.Sprintf("%s, chain %q", id, chain), func(t *testing.T) {
				inBubble(t, Options{}, func(w world) {
					s := w.subscribe(chain, Disconnect{10})
					require.NoError(t, w.run.TerminateChild(context.Background(), id))
					w.quiet()
					require.ErrorIs(t, s.Err(), ErrDown)
					require.ErrorIs(t, w.bus.Publish(note{}), ErrDown)
					_, err := w.run.RestartChild(context.Background(), id)
					require.NoError(t, err)
					again, err := w.bus.SubscribeWait(context.Background(), chain, Disconnect{10})
					require.NoError(t, err)
					w.quiet()
					require.NoError(t, again.Err())
					w.publish(1, 2)
					w.quiet()
					got, _ := read(again)
					require.Equal(t, []int{1, 2}, got)
				})
			})
		}
	}
}

// I5: an incarnation that was replaced has no subscription left and cannot come up again, even if
// it could not be stopped.
func TestAReplacedIncarnationIsFenced(t *testing.T) {
	bus, err := New[note](Options{})
	require.NoError(t, err)
	first := bus.begin()
	bus.up(first)
	s := newSubscription(first, all, Disconnect{1})
	s.bind(context.Background())
	require.NoError(t, first.join(s, make(chan struct{})))

	second := bus.begin()
	require.ErrorIs(t, s.Err(), ErrDown)
	require.ErrorContains(t, s.Err(), "replaced by the next incarnation")
	<-first.fenced
	require.ErrorIs(t, first.join(s, make(chan struct{})), ErrDown)
	bus.up(first)
	require.ErrorIs(t, bus.Publish(note{}), ErrDown, "the first is not the current one")
	second.end(errBoom)
	bus.up(second)
	require.ErrorIs(t, bus.Publish(note{}), errBoom, "the second is over")
}

// Stats returns at once, whatever the bus is doing (I8).
func TestStatsNeverWait(t *testing.T) {
	inBubble(t, Options{}, func(w world) {
		w.subscribe(Chain[note]{kind.Is("k")}, Disconnect{1})
		var releases []func()
		for _, path := range []string{"registry", "broker", "filters/agent-1"} {
			releases = append(releases, w.hang(path))
		}

		w.publish(1, 3)
		stats := w.bus.Stats()
		require.Equal(t, 3, stats.Broker.Waiting)
		require.Equal(t, []AgentStats{{ID: "agent-1", Chain: "kind=k", Subscribers: 1}}, stats.Agents)
		for _, release := range releases {
			release()
		}
	})
}

func TestSubscribeIsBoundByItsContextWhenTheRegistryHangs(t *testing.T) {
	inBubble(t, Options{}, func(w world) {
		release := w.hang(registryID)
		ctx, cancel := context.WithTimeoutCause(context.Background(), time.Second, errBoom)
		defer cancel()

		_, err := w.bus.Subscribe(ctx, Chain[note]{kind.Is("k")}, Disconnect{1})
		require.ErrorIs(t, err, ErrClosed)
		require.ErrorIs(t, err, errBoom)
		release()
		w.quiet()
		require.Zero(t, w.instances(), "one that went before its join came leaves nothing")
		require.Empty(t, w.bus.latest().subscriptions)
	})
}

func TestAJoinThatComesAfterItsEndLeavesNothing(t *testing.T) {
	inBubble(t, Options{}, func(w world) {
		in := w.bus.latest()
		s := newSubscription(in, Chain[note]{kind.Is("k")}, Disconnect{1})
		s.bind(context.Background())
		s.Close()
		w.quiet() // the registry has been told
		joined := make(chan struct{})
		require.NoError(t, in.join(s, joined))
		<-joined
		require.Empty(t, in.subscriptions)
		require.Zero(t, w.instances())
	})
}

// A chain that cannot grow ends the registry, unless the cause is an end that is known already: one
// death must not look like two.
func TestAnAgentThatCannotStartEndsTheRegistry(t *testing.T) {
	bus, err := New[note](Options{})
	require.NoError(t, err)
	idle, err := supervisor.NewDynamic(supervisor.DynamicSpec[*agent[note]]{
		Name:  filtersID,
		Start: func(context.Context, *agent[note]) (supervisor.Service, error) { return nil, supervisor.ErrIgnore },
	})
	require.NoError(t, err)

	in := bus.begin()
	var stopped error
	in.filters.Store(&filters[note]{dynamic: idle, stopped: func() error { return stopped }})
	r := &registry[note]{in: in}
	asked := []request[note]{{newSubscription(in, Chain[note]{kind.Is("k")}, Disconnect{1}), make(chan struct{})}}
	err = r.serve(context.Background(), asked)
	require.ErrorIs(t, err, supervisor.ErrNotRunning)
	require.ErrorContains(t, err, "start the agent for kind=k")
	require.NoError(t, in.ended())

	stopped = errBoom
	require.NoError(t, r.serve(context.Background(), asked))
	require.ErrorIs(t, in.ended(), errBoom)
}

// The filters are stopped first: a child that is stopped because they were killed is not given as
// the reason.
func TestTheReasonIsTheOneOfTheFilters(t *testing.T) {
	bus, err := New[note](Options{})
	require.NoError(t, err)
	in := bus.begin()
	in.filters.Store(&filters[note]{stopped: func() error { return errBoom }})
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(supervisor.ErrShutdown)
	require.ErrorIs(t, member[note]{in, in.broker}.Serve(ctx), supervisor.ErrShutdown)
	require.ErrorIs(t, in.ended(), errBoom)
	require.NotErrorIs(t, in.ended(), supervisor.ErrShutdown)
}
