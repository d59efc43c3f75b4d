package rounds_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/rounds"
)

// turns returns the names of the turns of an agent.
func (p *player[S]) turns(a rounds.Agent) (names []string) {
	for _, t := range p.m.Turns(p.st, a) {
		require.Equal(p.t, t.EndsPeriod, t.Act == nil)
		names = append(names, t.Name)
	}
	return names
}

// An agent has a turn in each round that accepts it and in which it has not spoken, and in a
// keeper's round only if it is the keeper.
func TestTurnsAreWhatAnAgentMaySay(t *testing.T) {
	number := func(context.Context, tally) (int, error) { return 1, nil }
	keep := func(s tally, _ int) tally { return s }
	slash := rounds.Table[tally]{Label: "SlashAbciApp", Start: "slash", Rounds: rounds.Rows[tally]{
		"slash": {Round: rounds.Same(number, keep), On: rounds.On{rounds.Done: "slashed", rounds.None: "slashed",
			rounds.NoMajority: "slashed"}},
		"slashed": {Round: rounds.Final[tally]()},
	}}
	service := rounds.Compose("TurnService", rounds.Links{"kept": rounds.ResetAndPause, rounds.PeriodEnded: "vote",
		rounds.PeriodFailed: "vote"},
		rounds.Table[tally]{Label: "TurnAbciApp", Start: "vote", Rounds: rounds.Rows[tally]{
			"vote": {Round: rounds.Same(number, keep), On: rounds.On{rounds.Done: "keep", rounds.None: "vote",
				rounds.NoMajority: "vote"}},
			"keep": {Round: rounds.Keeper(func(tally) rounds.Agent { return "c" }, number, keep),
				On: rounds.On{rounds.Done: "kept", rounds.Fail: "vote"}},
			"kept": {Round: rounds.Final[tally]()},
		}},
		rounds.ResetApp[tally](rounds.Pause(30*time.Second))).Beside(rounds.Background[tally]{
		Label: "OffenceAbciApp", Kind: rounds.Normal, Round: rounds.Same(number, keep), On: rounds.Done, App: &slash})
	p := play(t, service)

	require.Equal(t, []string{"vote", "OffenceAbciApp"}, p.turns("a"))
	require.Empty(t, p.turns("stranger"))
	p.st.Participants = []rounds.Agent{"a", "b", "c"}
	require.Empty(t, p.turns("d"), "it is registered, and takes no part")
	p.st.Participants = four

	p.block(nil, p.say("a", "1"))
	require.Equal(t, []string{"OffenceAbciApp"}, p.turns("a"), "it has spoken")
	require.Equal(t, []string{"vote", "OffenceAbciApp"}, p.turns("b"))

	p.block(nil, p.say("b", "1"), p.say("c", "1"))
	require.Equal(t, []string{"OffenceAbciApp"}, p.turns("a"), "it is not the keeper")
	require.Equal(t, []string{"keep", "OffenceAbciApp"}, p.turns("c"))

	interrupt := func(a rounds.Agent) rounds.Payload {
		return rounds.Payload{Agent: a, Label: "OffenceAbciApp", Count: p.st.Sides[0].Count, Bytes: []byte("1")}
	}
	p.block(nil, interrupt("a"), interrupt("b"), interrupt("c"))
	require.Equal(t, []string{"slash"}, p.turns("c"), "an interrupted round has no turn")
	p.block(nil, p.all("1")...)
	require.Equal(t, []string{"keep", "OffenceAbciApp"}, p.turns("c"), "it goes on")

	_, pauses := service.PauseEnds(p.st)
	require.False(t, pauses)
	p.block(nil, p.say("c", "1"))
	require.Equal(t, []string{string(rounds.ResetAndPause), "OffenceAbciApp"}, p.turns("d"))
	ends, pauses := service.PauseEnds(p.st)
	require.True(t, pauses)
	require.Equal(t, p.now.Add(30*time.Second), ends)
}
