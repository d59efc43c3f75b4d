package roundstest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/engines/rounds/roundstest"
)

type oracle struct {
	Prices   []int          `json:"prices,omitempty"`
	Estimate int            `json:"estimate"`
	Keeper   rounds.Agent   `json:"keeper"`
	Sent     map[string]int `json:"sent,omitempty"`
	Total    int            `json:"total"`
}

type end func(oracle, []rounds.Said[int]) oracle

func prices(o oracle, said []rounds.Said[int]) oracle {
	o.Prices = nil
	for _, s := range said {
		o.Prices = append(o.Prices, s.Value)
	}
	slices.Sort(o.Prices)
	return o
}

// service is a price oracle: observe, estimate, choose a keeper, publish, end the period.
func service(keep end) *rounds.Service[oracle] {
	app := rounds.Table[oracle]{
		Label: "OracleAbciApp", Start: "observe", Timeouts: rounds.Timeouts{rounds.Timeout: 30 * time.Second},
		Keep: func(o oracle) oracle { return oracle{Total: o.Total} },
		Rounds: rounds.Rows[oracle]{
			"observe": {Round: rounds.Different(1, func(context.Context, oracle) (int, error) {
				return rand.IntN(1000), nil // sources differ, also from one call to the next
			}, keep), On: rounds.On{rounds.Done: "estimate", rounds.Timeout: "observe"}},
			"estimate": {Round: rounds.Same(func(_ context.Context, o oracle) (int, error) {
				return o.Prices[len(o.Prices)/2], nil
			},
				func(o oracle, n int) oracle {
					o.Estimate = n
					return o
				}), On: rounds.On{rounds.Done: "choose", rounds.None: "observe", rounds.NoMajority: "observe",
				rounds.Timeout: "observe"}},
			"choose": {Round: rounds.SelectKeeper(func(_ context.Context, o oracle) (string, error) {
				return fmt.Sprint(o.Estimate), nil
			},
				nil, func(o oracle, a rounds.Agent) oracle {
					o.Keeper = a
					return o
				}), On: rounds.On{rounds.Done: "publish", rounds.None: "choose", rounds.NoMajority: "choose",
				rounds.Timeout: "choose"}},
			"publish": {Round: rounds.Keeper(func(o oracle) rounds.Agent { return o.Keeper },
				func(ctx context.Context, o oracle) (string, error) {
					return "by " + string(roundstest.AgentOf(ctx)), nil
				},
				func(o oracle, by string) oracle {
					o.Sent, o.Total = map[string]int{by: o.Estimate, "at": 1}, o.Total+1
					return o
				}), On: rounds.On{rounds.Done: "published", rounds.Fail: "choose", rounds.Timeout: "choose"}},
			"published": {Round: rounds.Final[oracle]()},
		},
	}
	return rounds.Compose("OracleService", rounds.Links{rounds.Registered: "observe", "published": rounds.ResetAndPause,
		rounds.PeriodEnded: "observe", rounds.PeriodFailed: rounds.Registration},
		rounds.RegistrationApp[oracle]("v1"), app,
		rounds.ResetApp[oracle](rounds.Every(3), rounds.Pause(5*time.Second)))
}

// Through delays, losses, another order and kills the service goes on, and its blocks give one
// state.
func TestTheOracleGoesOn(t *testing.T) {
	for seed := range uint64(60) {
		r := roundstest.Run(t, service(prices), roundstest.Options{Seed: seed + 1, Blocks: 300, Delay: 3, Loss: 0.1,
			Kills: 0.2, Down: 4})
		require.Greater(t, r.State.Period, uint64(3), "seed %d", seed+1)
		require.Equal(t, published(r), r.State.App.Total, "seed %d: the state outlived the periods", seed+1)
		require.NotZero(t, r.Kills)
		require.NotZero(t, r.Resent)
	}
}

// published counts the rounds in which the keeper published.
func published(r roundstest.Result[oracle]) (n int) {
	for _, e := range r.Ended {
		if e.Round == "publish" && e.Event == rounds.Done {
			n++
		}
	}
	return n
}

// f silent agents delay nothing but the rounds in which one of them is the keeper; one more stops
// the service, also in its first registration.
func TestSilentAgents(t *testing.T) {
	r := roundstest.Run(t, service(prices), roundstest.Options{Seed: 5, Agents: 7, Blocks: 200, Silent: 2})
	require.Equal(t, rounds.RegistrationStartup, r.State.Round, "the first registration wants all")

	app := rounds.Compose("Service", nil, number())
	r2 := roundstest.Run(t, app, roundstest.Options{Seed: 5, Agents: 7, Blocks: 50, Silent: 2})
	require.Greater(t, r2.State.Count, uint64(40))
	r2 = roundstest.Run(t, app, roundstest.Options{Seed: 5, Agents: 7, Blocks: 50, Silent: 3})
	require.EqualValues(t, 1, r2.State.Count)
}

func number() rounds.Table[int] {
	return rounds.Table[int]{Label: "NumberAbciApp", Start: "agree", Rounds: rounds.Rows[int]{"agree": {
		Round: rounds.Same(func(_ context.Context, n int) (int, error) {
			return n + 1, nil
		}, func(_, n int) int { return n }),
		On: rounds.On{rounds.Done: "agree", rounds.None: "agree", rounds.NoMajority: "agree"}}}}
}

// recorder is a test that notes its failure.
type recorder struct {
	testing.TB
	failures []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	panic(r)
}

// Mistakes of an app are caught: the order of a map in End, the clock in End, a panic, an agent
// that says two things. Checklist 75.
func TestSeededMistakesAreCaught(t *testing.T) {
	for name, c := range map[string]struct {
		keep end
		want string
	}{
		"map order": {func(o oracle, said []rounds.Said[int]) oracle {
			byAgent := map[rounds.Agent]int{}
			for _, s := range said {
				byAgent[s.Agent] = s.Value
			}
			o.Prices = nil
			for _, v := range byAgent {
				o.Prices = append(o.Prices, v)
			}
			o.Total += o.Prices[0]
			return o
		}, "played again"},
		"wall clock": {func(o oracle, said []rounds.Said[int]) oracle {
			o = prices(o, said)
			o.Total += time.Now().Nanosecond()
			return o
		}, "played again"},
		"wall clock that a later end writes over": {func(o oracle, said []rounds.Said[int]) oracle {
			o = prices(o, said)
			o.Keeper = rounds.Agent(fmt.Sprint(time.Now().UnixNano()))
			return o
		}, "played again"},
		"panic": {func(oracle, []rounds.Said[int]) oracle { panic("planted") }, "round observe panicked: planted"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &recorder{TB: t}
			func() {
				defer func() {
					if v := recover(); v != nil && v != any(r) {
						panic(v)
					}
				}()
				roundstest.Run(r, service(c.keep), roundstest.Options{Seed: 3})
			}()
			require.NotEmpty(t, r.failures)
			require.Contains(t, r.failures[0], c.want)
			require.Contains(t, r.failures[0], "seed 3")
		})
	}
}

// A run is a function of its seed and of what the behaviours return.
func TestARunIsAFunctionOfItsSeed(t *testing.T) {
	o := roundstest.Options{Seed: 9, Delay: 2, Loss: 0.2, Kills: 0.1, Down: 3}
	a, b := roundstest.Run(t, rounds.Compose("S", nil, number()), o), roundstest.Run(t,
		rounds.Compose("S", nil, number()), o)
	require.Equal(t, a, b)
}
