package ladder

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/consensus"
)

func stands(heights map[string]uint64) (all []consensus.PeerStanding) {
	for agent, h := range heights {
		all = append(all, consensus.PeerStanding{Epoch: 2, Height: h, Agent: agent})
	}
	return all
}

// With n agents, f+1 signed answers suffice: a dead peer blocks nothing, and a lie of f of them
// moves nothing. The original wants all others to answer alike. Items 25 and 53.
func TestFPlusOneAnswersSuffice(t *testing.T) {
	for n, want := range map[int]int{0: 1, 1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 2, 7: 3, 10: 4} {
		require.Equal(t, want, Answers{Agents: n}.Needed(), "%d agents", n)
	}

	for name, c := range map[string]struct {
		heights map[string]uint64
		want    uint64
		ok      bool
	}{
		"all answer":         {map[string]uint64{"a": 9, "b": 9, "c": 9}, 9, true},
		"one is dead":        {map[string]uint64{"a": 9, "b": 9}, 9, true},
		"two are dead":       {map[string]uint64{"a": 9}, 0, false},
		"one lies":           {map[string]uint64{"a": 1 << 60, "b": 9, "c": 8}, 9, true},
		"one is behind":      {map[string]uint64{"a": 9, "b": 9, "c": 1}, 9, true},
		"they go on":         {map[string]uint64{"a": 9, "b": 10, "c": 11}, 10, true},
		"one lies, one dead": {map[string]uint64{"a": 1 << 60, "b": 5}, 5, true},
	} {
		at, _, ok := Answers{Agents: 4, Asked: 3, Stands: stands(c.heights)}.Vouched()
		require.Equal(t, c.ok, ok, name)
		require.Equal(t, c.want, at.Height, name)
	}

	twice := append(stands(map[string]uint64{"a": 9}), stands(map[string]uint64{"a": 9})...)
	_, n, ok := Answers{Agents: 4, Stands: twice}.Vouched()
	require.False(t, ok, "one agent counts once")
	require.Equal(t, 1, n)
	_, _, ok = Answers{Agents: 4, Stands: stands(map[string]uint64{"": 9})}.Vouched()
	require.False(t, ok, "what nobody has signed does not count")
}

// original decides as the original does, of which this is a model: the answers of all other agents
// must be there, and be equal.
func original(others int, heights map[string]uint64) (height uint64, recovers bool) {
	if len(heights) < others {
		return 0, false
	}
	for _, h := range heights {
		if height != 0 && h != height {
			return 0, false
		}
		height = h
	}
	return height, true
}

// The model of the original fails where ours goes on. Item 53 [defect].
func TestTheOriginalIsBlockedByOneDeadPeer(t *testing.T) {
	_, recovers := original(3, map[string]uint64{"a": 9, "b": 9, "c": 9})
	require.True(t, recovers)
	for _, heights := range []map[string]uint64{{"a": 9, "b": 9}, {"a": 9, "b": 10, "c": 10}} {
		_, recovers := original(3, heights)
		require.False(t, recovers)
		_, _, ok := Answers{Agents: 4, Asked: 3, Stands: stands(heights)}.Vouched()
		require.True(t, ok)
	}
}

// The steps come in order, and the ladder gives up after five attempts. Item 25.
func TestTheStepsOfTheLadder(t *testing.T) {
	answers := func(epoch, height uint64) *Answers {
		a := &Answers{Agents: 4, Asked: 3}
		for _, agent := range []string{"a", "b"} {
			a.Stands = append(a.Stands, consensus.PeerStanding{Epoch: epoch, Height: height, Agent: agent})
		}
		return a
	}
	stall := func(attempts int, fit bool) Stall {
		return Stall{Epoch: 2, Height: 7, Attempts: attempts, Why: "peers are ahead", Fit: fit}
	}

	for name, c := range map[string]struct {
		Stall
		answers *Answers
		want    Rung
		says    string
		gaveUp  bool
	}{
		"first":                  {stall(0, true), nil, Gentle, "attempt 1 of 5", false},
		"peers are ahead":        {stall(1, true), answers(2, 9), Rebuild, "rebuilding CometBFT's data, attem", false},
		"in a later epoch":       {stall(1, true), answers(3, 1), Wait, "are in epoch 3, and this node is in 2", false},
		"nobody is ahead":        {stall(1, true), answers(2, 7), Wait, "no quorum: nobody is ahead", false},
		"an earlier epoch":       {stall(1, true), answers(1, 99), Wait, "no quorum: nobody is ahead", false},
		"nobody answers":         {stall(2, true), &Answers{Agents: 4, Asked: 3}, Gentle, "attempt 3 of 5", false},
		"nobody to ask":          {stall(2, true), nil, Gentle, "attempt 3 of 5", false},
		"no quorum, unasked":     {stall(0, false), nil, Wait, "no block after 7", false},
		"no quorum, few answers": {stall(0, false), &Answers{Agents: 4, Asked: 3}, Wait, "0 of 3 peers", false},
		"no quorum, asked":       {stall(0, false), answers(2, 7), Wait, "no quorum: nobody is ahead", false},
		"cut off":                {stall(0, false), answers(2, 9), Gentle, "peers or more are at height 9", false},
		"cut off for long":       {stall(1, false), answers(2, 9), Rebuild, "at height 9", false},
		"five attempts":          {stall(5, true), answers(2, 9), Gentle, "5 attempts have not helped", true},
	} {
		got := c.Next(c.answers)
		require.Equal(t, c.want, got.Rung, name)
		require.Contains(t, got.Text, c.says, name)
		require.Equal(t, c.gaveUp, got.GaveUp, name)
	}

	alone := stall(3, true)
	alone.Alone = true
	require.False(t, alone.Asks())
	require.Equal(t, Gentle, alone.Next(answers(2, 9)).Rung)
}
