package node

import (
	"crypto/ed25519"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/node/home"
)

// Periods that end in error leave the number of the period as it is. Each reset makes a chain of
// another name nevertheless, which the original does not [defect]: it names its chains by that
// number. The agents disagree on each new chain, and the next period resets the chain again. Item
// 44.
func TestAPeriodThatEndsInErrorGivesNoChainIDAgain(t *testing.T) {
	keys, agents := agentKeys(4)
	dir := initABCIWith(t, func(o *home.InitOptions) {
		o.GovernanceKey, o.ResetOffset, o.Agents = resetKey.Public().(ed25519.PublicKey), 20, agents
	})
	service := rounds.Compose("FailingService", rounds.Links{"added": rounds.ResetAndPause,
		rounds.PeriodEnded: "add", rounds.PeriodFailed: "add"},
		rounds.Table[tallied]{Label: "AddingAbciApp", Start: "add", Keep: func(s tallied) tallied { return s },
			Rounds: rounds.Rows[tallied]{
				"add": {Round: rounds.Same(nil, func(s tallied, n int) tallied { return tallied{s.Sum + n} }),
					On: rounds.On{rounds.Done: "added", rounds.None: "add", rounds.NoMajority: "add"}},
				"added": {Round: rounds.Final[tallied]()},
			}},
		rounds.ResetApp[tallied](rounds.Every(1), rounds.Pause(10*time.Millisecond)))

	a := &ahead{abciHand: driveABCI(t, dir, WithRounds(service))}
	defer a.close()
	a.initValidators()
	s, err := a.store.State(t.Context())
	require.NoError(t, err)

	say := func(payloads ...string) (txs [][]byte) {
		for i, payload := range payloads {
			txs = append(txs, a.say(service, keys, agents, i, payload))
		}
		return txs
	}

	s = a.make(s)
	original, seen := map[string]int{}, map[string]bool{"test": true}
	for epoch := range uint64(3) {
		s = a.make(s, say("1", "1", "1")...)
		require.True(t, s.InHold(), "the round that ends the period decides on a reset")
		require.Equal(t, rounds.ResetAndPause, a.fsm().Round)
		s = a.make(s)
		a.enter()
		s, err = a.store.State(t.Context())
		require.NoError(t, err)
		require.Equal(t, chain.EpochID("test", epoch+1), s.ChainID)
		require.False(t, seen[s.ChainID], s.ChainID)
		seen[s.ChainID] = true
		original[fmt.Sprintf("test-%d", a.fsm().Period)]++

		s = a.make(s)
		s = a.make(s, say("0", "0", "1", "1")...)
		require.EqualValues(t, "add", a.fsm().Round, "the period has ended in error")
		require.Zero(t, a.fsm().Period)
	}
	require.Equal(t, map[string]int{"test-0": 3}, original, "the names that the original gives")
}
