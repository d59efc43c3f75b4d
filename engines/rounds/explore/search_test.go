package explore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/engines/rounds/explore"
)

type app struct {
	N int `json:"n"`
}

func number(context.Context, app) (int, error) { return 1, nil }

func keepNumber(_ app, n int) app { return app{n} }

// table returns an app that agrees on a number, goes to another round, and from there to the end.
func table(done func(app, int) app, next rounds.Row[app]) *rounds.Service[app] {
	return rounds.Compose("Service", nil, rounds.Table[app]{
		Label: "SeededAbciApp", Start: "agree", Timeouts: timeouts(next.On),
		Rounds: rounds.Rows[app]{
			"agree": {Round: rounds.Same(number, done),
				On: rounds.On{rounds.Done: "next", rounds.None: "agree", rounds.NoMajority: "agree"}},
			"next": next,
			"over": {Round: rounds.Final[app]()},
		},
	})
}

func timeouts(on rounds.On) rounds.Timeouts {
	if on[rounds.Timeout] == "" {
		return nil
	}
	return rounds.Timeouts{rounds.Timeout: 7 * time.Second}
}

// custom is a round that ends as a function of the state says.
type custom func(s app, votes int) rounds.Event

func (custom) Events() []rounds.Event { return []rounds.Event{rounds.Done, rounds.Fail} }

func (custom) Admit(_ rounds.Poll, _ app, v rounds.Vote) error {
	if len(v.Payload) > 0 {
		return rounds.Malformed
	}
	return nil
}

func (c custom) End(p rounds.Poll, s app) rounds.Outcome[app] {
	return rounds.Outcome[app]{Event: c(s, len(p.Votes)), State: s}
}

// keeper returns a round whose keeper is no agent if the state is bad.
func keeper(bad int, on rounds.On) rounds.Row[app] {
	return rounds.Row[app]{On: on, Round: rounds.Keeper(func(s app) rounds.Agent {
		if s.N == bad {
			return "nobody"
		}
		return "agent1"
	}, number, keepNumber)}
}

// gate returns a round that ends as soon as an agent speaks, and with Done only in a good state.
func gate(bad int) rounds.Row[app] {
	return rounds.Row[app]{On: rounds.On{rounds.Done: "over", rounds.Fail: "next"},
		Round: custom(func(s app, votes int) rounds.Event {
			switch {
			case votes == 0:
				return ""
			case s.N == bad:
				return rounds.Fail
			default:
				return rounds.Done
			}
		})}
}

// spinning returns a round that ends in each block of a bad state, and otherwise when an agent
// speaks.
func spinning(bad int) rounds.Row[app] {
	return rounds.Row[app]{On: rounds.On{rounds.Done: "over", rounds.Fail: "next"},
		Round: custom(func(s app, votes int) rounds.Event {
			switch {
			case votes > 0:
				return rounds.Done
			case s.N == bad:
				return rounds.Fail
			default:
				return ""
			}
		})}
}

// never is no value that the search tries.
const never = 1000

// Each mistake is found with the shortest history, and the same table without it has no finding.
func TestSeededMistakesAreFound(t *testing.T) {
	on := rounds.On{rounds.Done: "over", rounds.Fail: "over"}
	saved := rounds.On{rounds.Done: "over", rounds.Fail: "over", rounds.Timeout: "agree"}
	divide := func(_ app, n int) app { return app{10 / n} }
	begins := "block 1: agent1 says 1; agree ends with DONE, and next begins"

	for name, c := range map[string]struct {
		bad, good *rounds.Service[app]
		kind      explore.Kind
		round     rounds.Name
		problem   string
		history   []string
	}{
		"a keeper that is no agent": {table(keepNumber, keeper(1, on)), table(keepNumber, keeper(1, saved)),
			explore.DeadEnd, "next", "no timeout ends the round", []string{begins}},
		"a gate that stays shut": {table(keepNumber, gate(1)), table(keepNumber, gate(never)),
			explore.NoExit, "next", "no continuation reaches a final round", []string{begins}},
		"rounds that end by themselves": {table(keepNumber, spinning(1)), table(keepNumber, spinning(never)),
			explore.NoRest, "next", "come back: next", []string{begins}},
		"a division by zero": {table(divide, gate(never)), table(keepNumber, gate(never)),
			explore.Panic, "agree", "integer divide by zero", []string{"block 1: agent1 says 0; agree panics"}},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := explore.Run(t.Context(), c.bad, explore.Options{Agents: 1})
			require.NoError(t, err)
			require.True(t, r.Complete)
			require.Len(t, r.Findings, 1)

			f := r.Findings[0]
			require.Equal(t, c.kind, f.Kind)
			require.Equal(t, c.round, f.Round)
			require.Equal(t, "SeededAbciApp", f.App)
			require.Contains(t, f.Problem, c.problem)
			require.Equal(t, c.history, f.History)
			require.ErrorContains(t, f, c.history[0])

			r, err = explore.Run(t.Context(), c.good, explore.Options{Agents: 1})
			require.NoError(t, err)
			require.True(t, r.Complete)
			require.Empty(t, r.Findings)
		})
	}
}

// An end that reads the clock or the order of a map is found, even if a later end writes over it.
// Item 75.
func TestEndsThatDifferAreFound(t *testing.T) {
	after := rounds.Row[app]{Round: rounds.Different(0, number,
		func(app, []rounds.Said[int]) app { return app{} }), On: rounds.On{rounds.Done: "over"}}

	for name, c := range map[string]struct {
		done   func(app, int) app
		agents int
	}{
		"the wall clock": {func(app, int) app { return app{time.Now().Nanosecond()} }, 2},
		"the order of a map": {func(_ app, n int) app {
			all := map[int]bool{}
			for i := range 64 {
				all[i] = true
			}
			for first := range all {
				return app{first + n}
			}
			return app{}
		}, 2},
	} {
		r, err := explore.Run(t.Context(), table(c.done, after), explore.Options{Agents: c.agents, States: 10_000})
		require.NoError(t, err, name)
		require.True(t, r.Complete, name)
		require.Len(t, r.Findings, 1, name)

		f := r.Findings[0]
		require.Equal(t, explore.Differs, f.Kind, name)
		require.Equal(t, rounds.Name("agree"), f.Round, name)
		require.ErrorContains(t, f, "reads a clock, a random number or the order of a map", name)
		require.NotEmpty(t, f.History, name)
	}
}

// That a service can be terminated is no way out of a round.
func TestATerminationIsNoWayOut(t *testing.T) {
	on := rounds.On{rounds.Done: "over", rounds.Fail: "over"}
	s := table(keepNumber, keeper(1, on)).Beside(rounds.Termination(
		func(context.Context, app) (string, error) { return "over", nil }, func(s app, _ string) app { return s }))

	r, err := explore.Run(t.Context(), s, explore.Options{Agents: 2})
	require.NoError(t, err)
	require.True(t, r.Complete)
	require.Len(t, r.Findings, 1)
	require.Equal(t, explore.DeadEnd, r.Findings[0].Kind)
	require.Equal(t, []string{"block 1: agent1 says 1; agent2 says 1; agree ends with DONE, and next begins"},
		r.Findings[0].History)
}

// A mistake that one order of three payloads shows, in one block, is found, and so is one that
// needs an agent to be silent until a timeout.
func TestAllOrdersAreTried(t *testing.T) {
	said := func(s app, all []rounds.Said[int]) app {
		if len(all) == 3 && all[0].Agent == "agent3" && all[1].Agent == "agent1" && all[2].Value == -1 {
			panic("planted")
		}
		return s
	}
	s := rounds.Compose("Service", nil, rounds.Table[app]{
		Label: "OrderAbciApp", Start: "tell", Timeouts: rounds.Timeouts{rounds.Timeout: 7 * time.Second},
		Rounds: rounds.Rows[app]{
			"tell": {Round: rounds.Different(0, number, said),
				On: rounds.On{rounds.Done: "over", rounds.Timeout: "late"}},
			"late": {Round: rounds.Different(0, number, func(app, []rounds.Said[int]) app { panic("late") }),
				On: rounds.On{rounds.Done: "over"}},
			"over": {Round: rounds.Final[app]()},
		},
	})

	r, err := explore.Run(t.Context(), s, explore.Options{Agents: 3})
	require.NoError(t, err)
	require.True(t, r.Complete)
	require.Len(t, r.Findings, 2)
	require.Equal(t, []string{"block 1: agent3 says nothing; agent1 says nothing; agent2 says -1; tell panics"},
		r.Findings[0].History)
	require.Equal(t, []string{"block 1: empty", "block 2: 7s pass; tell ends with ROUND_TIMEOUT, and late begins; " +
		"agent1 says nothing; agent2 says nothing; agent3 says nothing; late panics"}, r.Findings[1].History)
}

// The shipped apps, with an app of every shipped type of round, have no finding.
func TestTheShippedAppsHaveNoFinding(t *testing.T) {
	for agents, states := range map[int]int{1: 0, 2: 6_000, 4: 2_000} {
		r, err := explore.Run(t.Context(), shipped(), explore.Options{Agents: agents, States: states})
		require.NoError(t, err)
		require.Empty(t, r.Findings)
		require.Equal(t, states == 0, r.Complete)
		t.Logf("%d agents: %d states, histories of %d steps", agents, r.States, r.Depth)
	}
}

func shipped() *rounds.Service[app] {
	agreed := func(done rounds.Name) rounds.On {
		return rounds.On{rounds.Done: done, rounds.None: "agree", rounds.NoMajority: "agree"}
	}
	until := func(done rounds.Name) rounds.On { return rounds.On{rounds.Done: done, rounds.Timeout: "agree"} }
	said := func(s app, _ []rounds.Said[int]) app { return s }

	work := rounds.Table[app]{
		Label: "WorkAbciApp", Start: "agree", Timeouts: rounds.Timeouts{rounds.Timeout: 7 * time.Second},
		Keep: func(s app) app { return s },
		Rounds: rounds.Rows[app]{
			"agree": {Round: rounds.Same(number, keepNumber), On: agreed("choose")},
			"choose": {Round: rounds.SelectKeeper(func(context.Context, app) (string, error) { return "a", nil }, nil,
				func(s app, _ rounds.Agent) app { return s }), On: agreed("publish")},
			"publish": {Round: rounds.Keeper(func(app) rounds.Agent { return "agent1" }, number, keepNumber),
				On: rounds.On{rounds.Done: "vote", rounds.Fail: "agree", rounds.Timeout: "choose"}},
			"vote": {Round: rounds.Voting(func(context.Context, app) (rounds.Ballot, error) { return rounds.Yes, nil },
				nil), On: rounds.On{rounds.Done: "tell", rounds.Negative: "agree", rounds.None: "agree",
				rounds.NoMajority: "agree"}},
			"tell":     {Round: rounds.Different(1, number, said), On: until("tell_some")},
			"tell_all": {Round: rounds.DifferentUntilAll(number, said), On: until("same_all")},
			"tell_some": {Round: rounds.NonEmpty(0, number, said), On: rounds.On{rounds.Done: "tell_all",
				rounds.None: "agree", rounds.Timeout: "agree"}},
			"same_all": {Round: rounds.SameUntilAll(number, keepNumber), On: until("worked")},
			"worked":   {Round: rounds.Final[app]()},
		},
	}
	return rounds.Compose("ShippedService", rounds.Links{rounds.Registered: "agree", "worked": rounds.ResetAndPause,
		rounds.PeriodEnded: "agree", rounds.PeriodFailed: rounds.Registration},
		rounds.RegistrationApp[app]("v1"), work, rounds.ResetApp[app](rounds.Every(2))).
		Beside(rounds.Termination(func(context.Context, app) (string, error) { return "over", nil },
			func(s app, _ string) app { return s }))
}

// A bound ends the search early, which the result says; the mistake behind it is not found.
func TestBounds(t *testing.T) {
	on := rounds.On{rounds.Done: "over", rounds.Fail: "over"}
	s := table(keepNumber, keeper(1, on))
	over, cancel := context.WithCancel(t.Context())
	cancel()

	for name, c := range map[string]struct {
		ctx   context.Context
		o     explore.Options
		depth int
	}{
		"depth":  {t.Context(), explore.Options{Agents: 1, Depth: 1}, 1},
		"states": {t.Context(), explore.Options{Agents: 1, States: 3}, 1},
		"time":   {over, explore.Options{Agents: 1}, 0},
	} {
		r, err := explore.Run(c.ctx, s, c.o)
		require.NoError(t, err, name)
		require.False(t, r.Complete, name)
		require.Equal(t, c.depth, r.Depth, name)
		require.Empty(t, r.Findings, name)
	}

	for _, agents := range []int{0, explore.MaxAgents + 1} {
		_, err := explore.Run(t.Context(), s, explore.Options{Agents: agents})
		require.EqualError(t, err, fmt.Sprintf("explore: %d agents: expected 1 to 4", agents))
	}
}
