package pubsub

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var all Chain[note]

func TestSubscribersSeeWhatTheirChainMatchesInOrder(t *testing.T) {
	inBubble(t, Options{}, func(w world) {
		every := w.subscribe(all, Disconnect{100})
		ks := w.subscribe(Chain[note]{kind.Is("k")}, Disconnect{100})
		deep := w.subscribe(Chain[note]{kind.Is("k"), path.Is("p/q")}, Disconnect{100})
		other := w.subscribe(Chain[note]{path.Is("z"), kind.Is("k")}, Disconnect{100})
		for _, n := range []note{{"k", "p", 1}, {"l", "p/q", 2}, {"k", "p/q", 3}, {"k", "p/q/r", 4}, {"k", "z", 5}} {
			require.NoError(t, w.bus.Publish(n))
		}

		w.quiet()

		for _, c := range []struct {
			s    *Subscription[note]
			want []int
		}{{every, []int{1, 2, 3, 4, 5}}, {ks, []int{1, 3, 4, 5}}, {deep, []int{3, 4}}, {other, []int{5}}} {
			got, end := read(c.s)
			require.NoError(t, end)
			require.Equal(t, c.want, got, "chain %q", c.s.Chain())
		}
	})
}

func TestChainsShareTheAgentsOfTheirCommonPrefix(t *testing.T) {
	inBubble(t, Options{}, func(w world) {
		a, b, c := kind.Is("a"), kind.Is("b"), kind.Is("c")
		ab := w.subscribe(Chain[note]{a, b}, Disconnect{1})
		ac := w.subscribe(Chain[note]{a, c}, Disconnect{1})
		again := w.subscribe(Chain[note]{a, b}, Disconnect{1})
		require.Equal(t, []string{"kind=a", "kind=a,kind=b", "kind=a,kind=c"}, w.chains())

		again.Close()
		w.quiet()
		require.Equal(t, []string{"kind=a", "kind=a,kind=b", "kind=a,kind=c"}, w.chains(),
			"an agent with a subscriber stays")
		require.Equal(t, 2, w.instances(), "one index agent for kind under each of two parents")
		ab.Close()
		w.quiet()
		require.Equal(t, []string{"kind=a", "kind=a,kind=c"}, w.chains(),
			"the agent of the shared prefix stays for the other")
		ac.Close()
		w.quiet()
		require.Empty(t, w.chains())
		require.Zero(t, w.instances(), "agents end with their last subscriber")

		s := w.subscribe(Chain[note]{a}, Disconnect{1})
		require.NoError(t, w.bus.Publish(note{kind: "a", seq: 7}))
		w.quiet()
		got, _ := read(s)
		require.Equal(t, []int{7}, got, "a chain that was left gets a new agent")
		require.EqualValues(t, 1, w.bus.Stats().Incarnation, "all of this was normal")
	})
}

func TestASubscriberDiesWithItsContext(t *testing.T) {
	inBubble(t, Options{}, func(w world) {
		ctx, cancel := context.WithCancelCause(context.Background())
		s, err := w.bus.Subscribe(ctx, Chain[note]{kind.Is("k")}, Disconnect{10})
		require.NoError(t, err)
		w.publish(1, 3)
		w.quiet()
		cancel(errBoom)
		w.quiet()
		require.Zero(t, w.instances())
		got, end := read(s)
		require.Empty(t, got, "the buffer is discarded")
		require.ErrorIs(t, end, ErrClosed)
		require.ErrorIs(t, end, errBoom, "the end says why")
		require.ErrorIs(t, s.Err(), errBoom)
		<-s.Done()
		s.Close() // does nothing any more
		require.ErrorIs(t, s.Err(), errBoom)

		_, err = w.bus.Subscribe(ctx, all, Disconnect{10})
		require.ErrorIs(t, err, errBoom, "a context that is over subscribes to nothing")
		w.quiet()
		require.Zero(t, w.bus.Stats().Broker.Subscribers)
	})
}

func TestNextIsBoundByItsContextAlone(t *testing.T) {
	inBubble(t, Options{}, func(w world) {
		s := w.subscribe(all, Disconnect{1})
		ctx, cancel := context.WithTimeoutCause(context.Background(), time.Second, errBoom)
		defer cancel()

		_, err := s.Next(ctx)
		require.ErrorIs(t, err, errBoom)
		require.NoError(t, s.Err())
		w.publish(1, 1)
		e, err := s.Next(context.Background())
		require.NoError(t, err)
		require.Equal(t, 1, e.seq)
	})
}

func TestReadersInParallelShareASubscription(t *testing.T) {
	inBubble(t, Options{}, func(w world) {
		s := w.subscribe(all, Disconnect{100})
		got := make(chan int, 100)

		for range 4 {
			go func() {
				for e, err := range s.All(context.Background()) {
					if err != nil {
						return
					}
					got <- e.seq
				}
			}()
		}

		w.publish(1, 50)
		w.quiet()
		require.Len(t, got, 50, "no reader sleeps while there is something to read")
		s.Close()
	})
}

func TestDropOldestKeepsTheNewest(t *testing.T) {
	inBubble(t, Options{}, func(w world) {
		s := w.subscribe(all, DropOldest{3})
		w.publish(1, 10)
		w.quiet()
		require.EqualValues(t, 7, s.Dropped())
		got, end := read(s)
		require.NoError(t, end, "it never disconnects")
		require.Equal(t, []int{-7, 8, 9, 10}, got, "the gap stands where the events were")
		w.publish(11, 11)
		w.quiet()
		got, _ = read(s)
		require.Equal(t, []int{11}, got)
		stats := w.bus.Stats().Broker
		require.EqualValues(t, 11, stats.Delivered)
		require.EqualValues(t, 7, stats.Dropped)
	})
}

func TestDisconnectEndsASlowReader(t *testing.T) {
	inBubble(t, Options{}, func(w world) {
		s := w.subscribe(Chain[note]{kind.Is("k")}, Disconnect{3})
		w.publish(1, 10)
		w.quiet()
		require.ErrorIs(t, s.Err(), ErrSlow)
		require.Zero(t, w.instances(), "one that was disconnected holds no agent")
		got, end := read(s)
		require.Equal(t, []int{1, 2, 3}, got, "what was in the buffer is still read, and no gap")
		require.ErrorIs(t, end, ErrSlow)
		require.ErrorContains(t, end, "its buffer of 3 events was full")
	})
}

func TestBlockGivesTheReaderTime(t *testing.T) {
	const bound = time.Second
	inBubble(t, Options{}, func(w world) {
		s := w.subscribe(all, Block{Buffer: 3, Bound: bound})
		w.publish(1, 3)
		pass(10 * bound) // a buffer that is full and meets no event is not slow
		w.quiet()
		require.NoError(t, s.Err())

		w.publish(4, 5) // no room: the bound runs
		pass(bound - 1)
		w.quiet()
		require.NoError(t, s.Err())
		e, err := s.Next(context.Background())
		require.NoError(t, err)
		require.Equal(t, 1, e.seq)
		pass(10 * bound)
		w.quiet()
		require.NoError(t, s.Err(), "a reader that takes one within the bound goes on")
		w.publish(6, 6)
		w.quiet()
		got, _ := read(s)
		require.Equal(t, []int{2, 3, -2, 6}, got, "what found no room is a gap at its place")
		require.EqualValues(t, 2, s.Dropped())

		w.publish(7, 10)
		began := time.Now()
		<-s.Done()
		require.Equal(t, bound, time.Since(began), "a reader that takes nothing is disconnected at the bound")
		got, end := read(s)
		require.Equal(t, []int{7, 8, 9, -1}, got)
		require.ErrorIs(t, end, ErrSlow)
		require.ErrorContains(t, end, "took none for 1s")
	})
}

func TestASlowSubscriberCostsTheOthersNothing(t *testing.T) {
	for _, policy := range []Policy{Block{1, time.Hour}, DropOldest{1}, Disconnect{1}} {
		inBubble(t, Options{}, func(w world) {
			chain := Chain[note]{kind.Is("k")}
			w.subscribe(chain, policy) // never reads
			fast := w.subscribe(chain, Disconnect{1000})
			w.publish(1, 1000)
			w.quiet() // no time passes: nobody waited for the slow one
			got, end := read(fast)
			require.NoError(t, end)
			require.Equal(t, seq(1, 1000), got)
		})
	}
}

func TestABrokerThatIsBehindLeavesAGapAtItsPlace(t *testing.T) {
	inBubble(t, Options{Mailbox: 4}, func(w world) {
		direct := w.subscribe(all, Disconnect{100})
		filtered := w.subscribe(Chain[note]{kind.Is("k"), path.Is("p")}, Disconnect{100})
		release := w.hang(brokerID)
		w.publish(1, 4)
		for range 3 {
			require.ErrorIs(t, w.bus.Publish(note{"k", "p", 0}), ErrBehind)
		}

		stats := w.bus.Stats().Broker
		require.Equal(t, 4, stats.Waiting)
		require.EqualValues(t, 3, stats.Missed)
		release()
		w.quiet()

		for _, s := range []*Subscription[note]{direct, filtered} {
			got, end := read(s)
			require.NoError(t, end)
			require.Equal(t, []int{1, 2, 3, 4, -3}, got, "the gap is seen although nothing follows")
		}

		w.publish(5, 5)
		w.quiet()
		got, _ := read(filtered)
		require.Equal(t, []int{5}, got, "a gap is told once")
	})
}

func TestAnAgentThatIsBehindHoldsUpNobodyElse(t *testing.T) {
	inBubble(t, Options{Mailbox: 4}, func(w world) {
		direct := w.subscribe(all, Disconnect{100})
		chain := Chain[note]{Where("odd", func(n note, _ string) bool { return n.seq%2 == 1 }).Is("")}
		odd := w.subscribe(chain, Disconnect{100})
		release := w.hang(filtersID + "/agent-1")

		for i := 1; i <= 10; i++ {
			w.publish(i, i)
			w.quiet()
		}

		got, _ := read(direct)
		require.Equal(t, seq(1, 10), got)
		release()
		w.quiet()
		w.publish(11, 11)
		w.quiet()
		got, _ = read(odd)
		require.Equal(t, []int{1, 3, -6, 11}, got, "the count is an upper bound: half of the six were even")
		require.EqualValues(t, 6, w.bus.Stats().Agents[0].Missed)
	})
}

// A gap before events that do not match is reported with the next event that matches, or at the end
// of the batch.
func TestGapsPassThroughFilters(t *testing.T) {
	inBubble(t, Options{Mailbox: 2}, func(w world) {
		s := w.subscribe(Chain[note]{kind.Is("other")}, Disconnect{100})
		release := w.hang(brokerID)
		w.publish(1, 2)
		require.ErrorIs(t, w.bus.Publish(note{kind: "other"}), ErrBehind)
		release()
		w.quiet()
		got, _ := read(s)
		require.Equal(t, []int{-1}, got)
	})
}

func TestMemoryOfAStalledSubscriberIsBounded(t *testing.T) {
	inBubble(t, Options{Mailbox: 16}, func(w world) {
		for _, policy := range []Policy{Block{8, time.Hour}, DropOldest{8}, Disconnect{8}} {
			s := w.subscribe(all, policy)
			for i := range 1000 {
				_ = w.bus.Publish(note{seq: i})
				if i%16 == 0 {
					w.quiet()
				}
			}

			w.quiet()
			require.LessOrEqual(t, len(s.q.entries), 8, "%T", policy)
			require.LessOrEqual(t, cap(w.bus.latest().broker.in.q.entries), 16)
		}
	})
}

func TestSubscribeRefusals(t *testing.T) {
	inBubble(t, Options{}, func(w world) {
		for _, c := range []struct {
			chain  Chain[note]
			policy Policy
			is     error
			want   string
		}{
			{Chain[note]{nil}, Disconnect{1}, ErrFilter, "filter 0 of the chain is nil"},
			{all, nil, ErrOptions, "policy is nil"},
			{all, Disconnect{}, ErrOptions, "Disconnect.Buffer is 0, want 1 to 1048576 events"},
			{all, DropOldest{-1}, ErrOptions, "DropOldest.Buffer is -1"},
			{all, Block{Buffer: MaxBuffer + 1, Bound: 1}, ErrOptions, "Block.Buffer is 1048577"},
			{all, Block{Buffer: 1}, ErrOptions, "Block.Bound is 0s, want a positive duration"},
		} {
			_, err := w.bus.Subscribe(context.Background(), c.chain, c.policy)
			require.ErrorIs(t, err, c.is)
			require.ErrorContains(t, err, c.want)
		}
	})
	_, err := New[note](Options{Mailbox: -1})
	require.ErrorIs(t, err, ErrOptions)
	require.ErrorContains(t, err, "Mailbox is -1")
}

func TestABusThatWasNotStartedIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, err := New[note](Options{})
		require.NoError(t, err)
		require.ErrorIs(t, bus.Publish(note{}), ErrDown)
		_, err = bus.Subscribe(context.Background(), all, Disconnect{1})
		require.ErrorIs(t, err, ErrDown)
		require.ErrorContains(t, err, "not started yet")
		ctx, cancel := context.WithTimeoutCause(context.Background(), time.Second, errBoom)
		defer cancel()

		_, err = bus.SubscribeWait(ctx, all, Disconnect{1})
		require.ErrorIs(t, err, ErrDown)
		require.ErrorIs(t, err, errBoom)
		require.ErrorIs(t, bus.WaitUp(ctx), errBoom)
		stats := bus.Stats()
		require.Zero(t, stats.Incarnation)
		require.ErrorIs(t, stats.Err, ErrDown)
	})
}

func TestAMatchThatPanicsTakesTheBusDownWithItsReason(t *testing.T) {
	inBubble(t, Options{}, func(w world) {
		bad := errors.New("bad filter")
		s := w.subscribe(all, Disconnect{10})
		w.subscribe(Chain[note]{Where("bad", func(note, string) bool { panic(bad) }).Is("x")}, Disconnect{10})
		w.publish(1, 1)
		w.quiet()
		got, end := read(s)
		require.Equal(t, []int{1}, got, "what was in the buffer is read first")
		require.ErrorIs(t, end, ErrDown)
		require.ErrorIs(t, end, bad)
		require.EqualError(t, end, "pubsub: down: filter agent bad=x: panic: bad filter")
		require.EqualValues(t, 2, w.bus.Stats().Incarnation)
		require.NoError(t, w.bus.Stats().Err)
	})
}
