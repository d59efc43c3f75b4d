package rounds_test

import (
	"context"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/rounds"
)

// These are small models of what the original does where we must do better. Each test shows a
// history in which the model is wrong, and that we are right. The original's own code is not to be
// had here; the models are written from the specification's sentences.

// original is the original's collection of payloads: participants only, and NO_MAJORITY by their
// number.
type original struct {
	participants []rounds.Agent
	t            int
	votes        map[rounds.Agent]string
}

func (o *original) noMajority() bool {
	sizes, most := map[string]int{}, 0
	for _, v := range o.votes {
		sizes[v]++
		most = max(most, sizes[v])
	}
	return len(o.participants)-len(o.votes)+most < o.t
}

// Of four registered agents three take part and say 1, 1, 2. In a round that takes rejoiners the
// fourth can still say 1. Checklist 61.
func TestDefectRejoinersCount(t *testing.T) {
	o := original{participants: four[:3], t: 3, votes: map[rounds.Agent]string{"a": "1", "b": "1", "c": "2"}}
	require.True(t, o.noMajority(), "the original gives up")

	agents, err := rounds.NewAgents(0, four...)
	require.NoError(t, err)
	r := rounds.Same(number, one)
	p := rounds.Poll{Agents: agents, Participants: four[:3], Rejoin: true, Votes: []rounds.Vote{
		{Agent: "a", Payload: []byte("1")}, {Agent: "b", Payload: []byte("1")}, {Agent: "c", Payload: []byte("2")}}}
	require.Empty(t, r.End(p, tally{}).Event)

	p.Votes = append(p.Votes, rounds.Vote{Agent: "d", Payload: []byte("1")})
	require.Equal(t, rounds.Done, r.End(p, tally{}).Event)
}

// Payloads that cannot agree, or that have two forms, never reach the end of a round. Checklist 62.
func TestDefectMalformedPayloads(t *testing.T) {
	originalAdmits := func(payload string) bool { return payload != "" } // whatever decodes to something
	agents, err := rounds.NewAgents(0, four...)
	require.NoError(t, err)
	p := rounds.Poll{Agents: agents, Participants: four}

	for _, payload := range []string{"[1]", "NaN", "1.0", `"maybe"`, "1e0", "1 ", "01"} {
		require.True(t, originalAdmits(payload))
		require.Equal(t, rounds.Malformed,
			rounds.Same(number, one).Admit(p, tally{}, rounds.Vote{Agent: "a", Payload: []byte(payload)}))
		require.Equal(t, rounds.Malformed,
			rounds.Voting[tally](nil, nil).Admit(p, tally{}, rounds.Vote{Agent: "a", Payload: []byte(payload)}))
	}

	_, err = rounds.Encode(nan())
	require.Error(t, err, "an agent cannot even sign NaN")
}

func nan() float64 {
	v, _ := strconv.ParseFloat("NaN", 64)
	return v
}

// Strangers cannot fill a round that waits for all. Checklist 63.
func TestDefectUntilAllTakesNoStrangers(t *testing.T) {
	originalDone := func(votes int) bool { return votes >= len(four) } // of whomever
	require.True(t, originalDone(4))

	p := play(t, rounds.Compose("Test", nil,
		rounds.Table[tally]{Label: "TestAbciApp", Start: "vote", Rounds: rounds.Rows[tally]{
			"vote": {Round: rounds.DifferentUntilAll(number, many), On: rounds.On{rounds.Done: "vote"}}}}))
	p.block(nil, p.say("a", "1"), p.say("x", "2"), p.say("y", "3"), p.say("z", "4"))
	require.Empty(t, p.report.Ended)
	require.Len(t, p.report.Refusals, 3)
}

// A copied value is taken: otherwise copying would silence the agent that was copied. Checklist 64.
func TestDefectACopyIsTaken(t *testing.T) {
	seen := map[string]bool{}
	originalAdmits := func(payload string) bool {
		defer func() { seen[payload] = true }()
		return !seen[payload]
	}
	require.True(t, originalAdmits("5"))  // the copy, which came first
	require.False(t, originalAdmits("5")) // the honest agent

	p := play(t, rounds.Compose("Test", nil, table(rounds.Different(0, number, many))))
	p.block(nil, p.say("d", "5"), p.say("a", "5"), p.say("b", "5"))
	require.Empty(t, p.report.Refusals)
	require.Equal(t, rounds.Done, p.report.Ended[0].Event)
}

type pair struct {
	X *int `json:"x"`
	Y *int `json:"y"`
}

// NonEmpty keeps the names of attributes: nothing for x and 5 for y is not x = 5. Checklist 65.
func TestDefectNonEmptyKeepsNames(t *testing.T) {
	five := 5
	values := []*int{nil, &five} // for the names x, y
	original := map[string]int{} // drops the empty ones, then names the rest in order
	names := []string{"x", "y"}
	for _, v := range values {
		if v != nil {
			original[names[len(original)]] = *v
		}
	}
	require.Equal(t, map[string]int{"x": 5}, original)

	var got []rounds.Said[pair]
	r := rounds.NonEmpty(0, func(context.Context, tally) (pair, error) { return pair{Y: &five}, nil },
		func(s tally, said []rounds.Said[pair]) tally {
			got = said
			return s
		})
	p := play(t, rounds.Compose("Test", nil, table(r)))
	p.block(nil, p.say("a", `{"x":null,"y":5}`), p.say("b", ""), p.say("c", ""))
	require.Equal(t, rounds.Done, p.report.Ended[0].Event)
	require.Nil(t, got[0].Value.X)
	require.Equal(t, 5, *got[0].Value.Y)
	require.True(t, got[1].Empty)
}

// A period that ended in error gives its chain no name a second time: the epoch counts resets, not
// periods. The report says that a reset is due by the round that is entered, once for each entry.
// Checklist 44.
func TestDefectAResetAfterAnErrorIsDueAgain(t *testing.T) {
	p := play(t, rounds.Compose("Service", rounds.Links{rounds.Registered: observe, finished: rounds.ResetAndPause,
		rounds.PeriodEnded: observe, rounds.PeriodFailed: rounds.Registration},
		rounds.RegistrationApp[oracle](), oracleApp(), rounds.ResetApp[oracle](rounds.Every(1))))
	p.block(nil, p.all(`""`)...)

	resets := 0
	for range 2 {
		p.block(nil, p.all("3")...)
		p.block(nil)
		p.block(nil, p.all("4")...)
		require.True(t, p.report.Ended[0].Reset)
		resets++

		p.block(nil, p.say("a", "0"), p.say("b", "0"), p.say("c", "1"), p.say("d", "1"))
		require.Equal(t, rounds.Registration, p.st.Round)
		p.block(nil, p.all(`""`)...)
		for range 10 {
			p.block(nil)
		}
		require.Equal(t, observe, p.st.Round)
	}
	require.Equal(t, 2, resets)
	require.Zero(t, p.st.Period, "the original names both chains by this number")
}
