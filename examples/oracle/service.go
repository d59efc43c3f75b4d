package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/coppice-go/coppice/engines/rounds"
)

// Oracle is the state of the service. It is replicated: every node has the same one after the same
// block.
type Oracle struct {
	Last     Report                 `json:"last"`               // the last one that was published
	Prices   map[rounds.Agent]int64 `json:"prices,omitempty"`   // that the agents have observed, in cents
	Estimate int64                  `json:"estimate,omitempty"` // that they have agreed on
	Keeper   rounds.Agent           `json:"keeper,omitempty"`   // the agent that publishes
	Tried    []rounds.Agent         `json:"tried,omitempty"`    // the keepers of this report so far
}

// Report is what the oracle publishes.
type Report struct {
	Number uint64                 `json:"number"` // 1 for the first
	Cents  int64                  `json:"cents"`
	Prices map[rounds.Agent]int64 `json:"prices,omitempty"` // whose median Cents is
}

// next returns the report that is being made.
func (o Oracle) next() Report { return Report{o.Last.Number + 1, o.Estimate, o.Prices} }

// The rounds of the app.
const (
	observe   rounds.Name = "observe"
	estimate  rounds.Name = "estimate"
	choose    rounds.Name = "choose"
	publish   rounds.Name = "publish"
	published rounds.Name = "published"
)

// App returns the rounds of one period. Once the agents have agreed on an estimate, no way leads
// back to the observation: a report has one content, however often it is published.
func App(c Config) rounds.Table[Oracle] {
	return rounds.Table[Oracle]{
		Label: "OracleAbciApp", Start: observe,
		Timeouts: rounds.Timeouts{rounds.Timeout: 10 * time.Second},
		Keep:     func(o Oracle) Oracle { return Oracle{Last: o.Last} },
		Rounds: rounds.Rows[Oracle]{
			observe: {
				Round: rounds.Different(1, c.ask, keepPrices),
				On:    rounds.On{rounds.Done: estimate, rounds.Timeout: observe},
				About: "Each agent says the price that its source gives.",
			},
			estimate: {
				Round: rounds.Same(median, agree),
				On: rounds.On{rounds.Done: choose, rounds.None: observe, rounds.NoMajority: observe,
					rounds.Timeout: observe},
				About: "The agents agree on the median of the prices.",
			},
			choose: {
				Round: rounds.SelectKeeper(seed, tried, chosen),
				On: rounds.On{rounds.Done: publish, rounds.None: choose, rounds.NoMajority: choose,
					rounds.Timeout: choose},
				About: "The agents choose one that has not been the keeper of this report.",
			},
			publish: {
				Round: rounds.Keeper(keeper, c.send, sent),
				On:    rounds.On{rounds.Done: published, rounds.Fail: choose, rounds.Timeout: choose},
				About: "The keeper publishes the report.",
			},
			published: {Round: rounds.Final[Oracle]()},
		},
	}
}

// Service returns the whole service: the agents register, make a report, pause, and begin again.
// All nodes have the same pause.
func Service(c Config, pause time.Duration) *rounds.Service[Oracle] {
	return rounds.Compose("OracleService",
		rounds.Links{
			rounds.Registered:   observe,
			published:           rounds.ResetAndPause,
			rounds.PeriodEnded:  observe,
			rounds.PeriodFailed: rounds.Registration,
		},
		rounds.RegistrationApp[Oracle]("oracle, version 1"),
		App(c),
		rounds.ResetApp[Oracle](
			rounds.Every(0), // never resets the chain
			rounds.Pause(pause)))
}

// ask is the behaviour of observe.
func (c Config) ask(ctx context.Context, o Oracle) (int64, error) {
	return c.Source(ctx, o.Last.Number+1)
}

// keepPrices is the end of observe.
func keepPrices(o Oracle, said []rounds.Said[int64]) Oracle {
	next := Oracle{Last: o.Last, Prices: map[rounds.Agent]int64{}}
	for _, s := range said {
		if !s.Empty {
			next.Prices[s.Agent] = s.Value
		}
	}
	return next
}

// median is the behaviour of estimate. Of an even number of prices it returns the lower one in the
// middle, which an agent has said.
func median(_ context.Context, o Oracle) (int64, error) {
	sorted := slices.Sorted(maps.Values(o.Prices))
	if len(sorted) == 0 {
		return 0, errors.New("no agent has said a price")
	}
	return sorted[(len(sorted)-1)/2], nil
}

// agree is the end of estimate.
func agree(o Oracle, cents int64) Oracle {
	o.Estimate = cents
	return o
}

// seed is the behaviour of choose. All agents say the same, and nobody knew it before the estimate
// was agreed on.
func seed(_ context.Context, o Oracle) (string, error) {
	return fmt.Sprintf("%d %d %d", o.Last.Number+1, o.Estimate, len(o.Tried)), nil
}

// tried returns the agents that are passed over.
func tried(o Oracle) []rounds.Agent { return o.Tried }

// chosen is the end of choose.
func chosen(o Oracle, a rounds.Agent) Oracle {
	o.Keeper, o.Tried = a, append(o.Tried, a)
	return o
}

// keeper returns the agent that speaks in publish.
func keeper(o Oracle) rounds.Agent { return o.Keeper }

// send is the behaviour of publish. It may run several times for a report, in several agents.
func (c Config) send(ctx context.Context, o Oracle) (uint64, error) {
	r := o.next()
	return r.Number, c.Sink(ctx, r)
}

// sent is the end of publish.
func sent(o Oracle, _ uint64) Oracle { return Oracle{Last: o.next()} }
