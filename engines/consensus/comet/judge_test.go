package comet

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
)

// A validator that stops after it has voted in an early round of a height is missing in the round
// that does not end: the two that are left of four are no quorum.
func TestAValidatorThatStopsBetweenTwoRoundsIsMissing(t *testing.T) {
	now := time.Unix(1000, 0)
	h := newHealth(func() time.Time { return now })
	h.height, h.moved, h.follows, h.up = 7, now, true, true
	h.report = child.Report{Peers: []child.Peer{{ID: "b"}, {ID: "c"}, {ID: "d"}}, Configured: []string{"b", "c", "d"}}

	poll := func(state string) consensus.Condition {
		o := &observed{height: 7, address: "A", validators: []validator{{"A", 10}, {"B", 10}, {"C", 10}, {"D", 10}},
			clocks: map[string]time.Time{"A": now, "B": now, "C": now}}
		require.NoError(t, o.readVotes([]byte(state)))
		h.polled(o, nil)
		var c consensus.Condition
		h.judge(&c, o)
		return c
	}

	const first = `{"round":0,"prevotes":["Vote{0:A}","Vote{1:B}","Vote{2:C}","nil-Vote"],"precommits":[]}`
	const second = `{"round":1,"prevotes":["Vote{0:A}","nil-Vote","Vote{2:C}","nil-Vote"],"precommits":[]}`

	require.NotEqual(t, consensus.NoQuorum, poll(`{"height/round/step":"8/0/4","height_vote_set":[`+first+`]}`).State)
	now = now.Add(h.bound)
	both := `{"height/round/step":"8/1/4","height_vote_set":[` + first + `,` + second +
		`,{"round":2,"prevotes":["nil-Vote"]}]}`
	require.NotEqual(t, consensus.NoQuorum, poll(both).State, "the round has just begun")

	now = now.Add(h.bound)
	c := poll(both)
	require.Equal(t, consensus.NoQuorum, c.State)
	require.Contains(t, c.Reason, "voting power 20 of 40 is present")
	require.Contains(t, c.Reason, "B")
	require.Contains(t, c.Reason, "D")
}

// A validator that stops between its prevote and its precommit is missing, too: the prevotes of
// three of four are a quorum, and the two that are left wait for a precommit for ever.
func TestAValidatorThatStopsBetweenTwoStepsIsMissing(t *testing.T) {
	now := time.Unix(1000, 0)
	h := newHealth(func() time.Time { return now })
	h.height, h.moved, h.follows, h.up = 7, now, true, true
	h.report = child.Report{Peers: []child.Peer{{ID: "b"}}, Configured: []string{"b", "c", "d"}}

	poll := func() consensus.Condition {
		o := &observed{height: 7, address: "A", validators: []validator{{"A", 10}, {"B", 10}, {"C", 10}, {"D", 10}},
			clocks: map[string]time.Time{"A": now, "B": now, "C": now}}
		require.NoError(t, o.readVotes([]byte(`{"height/round/step":"8/0/6","height_vote_set":[{"round":0,
			"prevotes":["Vote{0:A}","Vote{1:B}","Vote{2:C}","nil-Vote"],
			"precommits":["Vote{0:A}","Vote{1:B}","nil-Vote","nil-Vote"]}]}`)))
		h.polled(o, nil)
		var c consensus.Condition
		h.judge(&c, o)
		return c
	}

	require.NotEqual(t, consensus.NoQuorum, poll().State)
	now = now.Add(h.bound)
	c := poll()
	require.Equal(t, consensus.NoQuorum, c.State)
	require.Contains(t, c.Reason, "voting power 20 of 40 is present")
	require.Contains(t, c.Reason, "missing: C, D")
}

// What a process has said of its peers' genesis ends with the process: the next one compares anew.
func TestTheWordOnThePeersGenesisIsOfOneProcess(t *testing.T) {
	now := time.Unix(1000, 0)
	h := newHealth(func() time.Time { return now })
	o := &observed{address: "A", validators: []validator{{"A", 10}, {"B", 10}}}
	state := func() consensus.Readiness {
		var c consensus.Condition
		h.judge(&c, o)
		return c.State
	}

	h.differs("peer B has another genesis")
	require.Equal(t, consensus.WrongGenesis, state())
	h.began()
	require.NotEqual(t, consensus.WrongGenesis, state())
}

// A peer that is in another epoch of this chain is not one of another chain. Section 2.6.
func TestAPeerInAnotherEpochIsOfThisChain(t *testing.T) {
	refused := func(h *health, theirs, ours string) string {
		why := "peer is on a different network. Got " + theirs + ", expected " + ours
		h.reported(child.Report{Refused: map[string]string{"a": why}})
		return h.otherChain()
	}

	h := newHealth(nil)
	require.NotEmpty(t, refused(h, "pear", "orchard"))
	require.NotEmpty(t, refused(h, "orchard", "orchard-1"), "a chain that was never reset")

	h.hold.Height = 7
	require.Empty(t, refused(h, "orchard", "orchard-1"), "the process is in the next epoch already")
	require.Empty(t, refused(h, "orchard-1", "orchard"))

	h.hold.Height = 0
	h.enters(3)
	require.Empty(t, refused(h, "orchard", "orchard-3"))
	require.Empty(t, refused(h, "orchard-4", "orchard-3"))
	require.NotEmpty(t, refused(h, "pear-3", "orchard-3"))
	require.NotEmpty(t, refused(h, "orchard-03", "orchard-3"))
}
