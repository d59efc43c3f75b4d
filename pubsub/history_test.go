package pubsub

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// modelled is a subscription with what the model expects of it.
type modelled struct {
	*Subscription[note]
	cancel context.CancelFunc
	want   []int // what must be read from it
}

// Random histories of joining, leaving, dying and publishing agree with a model: the chains of the
// living subscriptions define which agents run, and each subscription has exactly those events of
// its time that its chain matches.
func TestRandomHistoriesAgainstAModel(t *testing.T) {
	inBubble(t, Options{}, func(w world) {
		rapid.Check(t, func(t *rapid.T) {
			var live []*modelled
			published := 0
			deaths := w.bus.Stats().Incarnation

			draw := func(t *rapid.T, label string) Chain[note] {
				return rapid.SliceOfN(rapid.SampledFrom([]Filter[note]{
					kind.Is("a"), kind.Is("b"), path.Is("x"), path.Is("x/y"),
				}), 0, 4).Draw(t, label)
			}

			take := func(t *rapid.T) *modelled {
				if len(live) == 0 {
					return nil
				}
				i := rapid.IntRange(0, len(live)-1).Draw(t, "which")
				m := live[i]
				live = slices.Delete(live, i, i+1)
				return m
			}

			join := func(t *rapid.T) {
				ctx, cancel := context.WithCancel(context.Background())
				s, err := w.bus.Subscribe(ctx, draw(t, "chain"), Disconnect{1000})
				require.NoError(t, err)
				live = append(live, &modelled{s, cancel, nil})
			}

			t.Repeat(map[string]func(*rapid.T){
				"join": join,
				"close": func(t *rapid.T) {
					if m := take(t); m != nil {
						m.Close()
						m.cancel()
					}
				},
				"die": func(t *rapid.T) {
					if m := take(t); m != nil {
						m.cancel()
					}
				},
				// The last subscription leaves as the next joins: nothing waits between the two.
				"leave and join": func(t *rapid.T) {
					if m := take(t); m != nil {
						chain := m.Chain()
						m.cancel()
						ctx, cancel := context.WithCancel(context.Background())
						s, err := w.bus.Subscribe(ctx, chain, Disconnect{1000})
						require.NoError(t, err)
						live = append(live, &modelled{s, cancel, nil})
					}
				},
				"publish": func(t *rapid.T) {
					published++
					n := note{rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "kind"),
						rapid.SampledFrom([]string{"x", "x/y", "z"}).Draw(t, "path"), published}
					require.NoError(t, w.bus.Publish(n))

					for _, m := range live {
						if m.Chain().Match(n) {
							m.want = append(m.want, n.seq)
						}
					}
				},
				"restart": func(t *rapid.T) {
					if rapid.IntRange(0, 9).Draw(t, "rarely") > 0 {
						return
					}

					pass(bigPeriod) // restarts stay within the limit
					w.quiet()
					deaths++
					require.NoError(t, w.run.Kill(brokerID, errBoom))
					w.quiet()
					require.NoError(t, w.bus.WaitUp(context.Background()))

					for _, m := range live {
						require.ErrorIs(t, m.Err(), ErrDown)
						m.cancel()
					}

					live = nil
				},
				"": func(t *rapid.T) {
					w.quiet()
					var chains []string

					for _, m := range live {
						for i := range m.Chain() {
							chains = append(chains, m.Chain()[:i+1].String())
						}
						got, end := read(m.Subscription)
						require.NoError(t, end)
						require.Equal(t, m.want, got, "chain %q", m.Chain())
						m.want = nil
					}

					slices.Sort(chains)
					chains = slices.Compact(chains)
					require.ElementsMatch(t, chains, w.chains())
					running := 0
					for _, a := range append(w.bus.latest().running(), w.bus.latest().broker) {
						running += len(a.indexes)
						if a.index == nil && a.parent != nil {
							running++
						}
					}
					require.Equal(t, running, w.instances(), "the supervisor has the same agents")
					stats := w.bus.Stats()
					require.Equal(t, deaths, stats.Incarnation)
					subscribers := stats.Broker.Subscribers
					for _, a := range stats.Agents {
						subscribers += a.Subscribers
					}

					require.Equal(t, len(live), subscribers)
					in := w.bus.latest()
					require.Len(t, in.subscriptions, len(live))

					for _, a := range append(in.running(), in.broker) {
						below := len(a.indexes)
						for _, child := range a.children {
							if child.index == nil {
								below++
							}
						}
						require.Len(t, a.outputs.members, int(a.subscribers.Load())+below,
							"%s hands events to nobody else", a.name())
					}
				},
			})

			for _, m := range live {
				m.cancel()
			}

			w.quiet()
			require.Zero(t, w.instances())
		})
	})
}

// Many subscribe at once: after Subscribe has returned, a subscription gets every event that is
// published, although others leave the same agents at that moment.
func TestJoinsAndLastLeavesAtOnce(t *testing.T) {
	inBubble(t, Options{}, func(w world) {
		chains := []Chain[note]{nil, {kind.Is("k")}, {kind.Is("k"), path.Is("p")}, {path.Is("p")},
			{path.Is("p"), kind.Is("k")}}
		var wg sync.WaitGroup

		for worker := range 8 {
			rng := rand.New(rand.NewPCG(1, uint64(worker)))
			wg.Go(func() {
				for round := range 200 {
					ctx, cancel := context.WithCancel(context.Background())
					s, err := w.bus.Subscribe(ctx, chains[rng.IntN(len(chains))], DropOldest{4096})
					if err != nil {
						panic(err)
					}
					mine := worker*1000 + round
					if err := w.bus.Publish(note{"k", "p", mine}); err != nil {
						panic(err)
					}

					for {
						e, err := s.Next(context.Background())
						if err != nil {
							panic(err)
						}
						if e.seq == mine {
							break
						}
					}

					if rng.IntN(2) == 0 {
						s.Close()
					}

					cancel()
				}
			})
		}

		wg.Wait()
		w.quiet()
		require.Zero(t, w.instances())
		require.Empty(t, w.bus.Stats().Agents)
		require.EqualValues(t, 1, w.bus.Stats().Incarnation)
	})
}

// Children die at any moment, under load: no subscription hangs, and each reads its events in
// order, without a hole between two of them.
func TestDeathsUnderLoad(t *testing.T) {
	inBubble(t, Options{Mailbox: 64}, func(w world) {
		ctx, stop := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		var reads, gaps, downs atomic.Int64
		wg.Go(func() { // one publisher, which numbers its events
			for seq := 1; ctx.Err() == nil; seq++ {
				_ = w.bus.Publish(note{"k", "p", seq})
				if seq%32 == 0 {
					pass(time.Second) // a burst a second, and deaths at the same instants
				}
			}
		})

		for worker := range 6 {
			policy := []Policy{DropOldest{16}, Disconnect{16}, Block{16, time.Second}}[worker%3]
			wg.Go(func() {
				for ctx.Err() == nil {
					s, err := w.bus.SubscribeWait(ctx, Chain[note]{kind.Is("k"), path.Is("p")}[:worker%2+1], policy)
					if err != nil {
						return
					}

					last, gap := 0, uint64(0)

					for e, err := range s.All(ctx) {
						if g, ok := err.(*Gap); ok {
							gap += g.Missed
							gaps.Add(1)
							continue
						}

						if err != nil {
							if errors.Is(err, ErrDown) {
								downs.Add(1)
							}
							break
						}

						reads.Add(1)
						// Everything matches, so the count of a gap is exact here.
						if last > 0 && uint64(e.seq) != uint64(last)+gap+1 {
							panic("a hole without a gap, or a wrong order")
						}

						last, gap = e.seq, 0
					}

					s.Close()
				}
			})
		}

		children := []string{"registry", "broker", "filters", "filters/agent-1"}
		kills := uint64(0)

		for i := range 40 {
			pass(bigPeriod)
			if err := w.bus.WaitUp(ctx); err != nil {
				panic(err)
			}
			if w.run.Kill(children[i%len(children)], errBoom) == nil { // there may be no such agent at that moment
				kills++
			}
		}

		stop()
		wg.Wait()
		w.quiet()
		require.NoError(t, w.bus.Stats().Err)
		require.Zero(t, w.instances())
		require.Greater(t, kills, uint64(30))
		require.LessOrEqual(t, w.bus.Stats().Incarnation, kills+1, "one death is one restart")
		require.Greater(t, w.bus.Stats().Incarnation, uint64(30))
		for name, n := range map[string]*atomic.Int64{"reads": &reads, "gaps": &gaps, "downs": &downs} {
			require.Greater(t, n.Load(), int64(40), "the test met enough %s", name)
		}
	})
}
