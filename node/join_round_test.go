package node

import (
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/comettest"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/engines/rounds/replicated"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
)

// A node that joins in epoch 5 in the middle of a round has the same FSM as a node that was there
// all the time, and the next vote ends the round on both. One joins by the state at F with the
// blocks after it, and another one by state sync. One vote is older than the reset, and one is
// younger. Item 43.
func TestANodeThatJoinsInTheMiddleOfARoundHasItsVotes(t *testing.T) {
	const epochs, middle = 5, 107 // the height of the second vote, as is checked below
	keys, agents := agentKeys(4)
	one := initABCIWith(t, func(o *home.InitOptions) {
		o.GovernanceKey, o.ResetOffset, o.Agents = resetKey.Public().(ed25519.PublicKey), 20, agents
		o.Set = append(o.Set, config.Assignment{Key: "state_sync.every_heights", Value: fmt.Sprint(middle)})
	})
	other := filepath.Join(t.TempDir(), "other")
	third := filepath.Join(t.TempDir(), "third")
	copyHome(t, other, one)
	copyHome(t, third, one)
	service := adding(nil, time.Hour)

	a := &ahead{abciHand: driveABCI(t, one, WithRounds(service))}
	defer a.close()
	a.initValidators()
	vote := func(i int) chain.State {
		s, err := a.store.State(t.Context())
		require.NoError(t, err)
		return a.make(s, a.say(service, keys, agents, i, "2"))
	}
	fsm := func(h *abciHand) string { return fmt.Sprintf("%+v", h.fsm()) }

	for range epochs - 1 {
		a.reset()
	}
	vote(0)
	a.reset()
	first := len(a.blocks) - 1 // of epoch 5
	s := vote(1)
	require.EqualValues(t, []uint64{epochs, middle}, []uint64{s.Period, s.Height})
	open := fsm(a.abciHand)
	a.offered()

	byState := driveABCI(t, other, WithRounds(service))
	defer byState.close()
	at := a.points[epochs-1]
	require.NoError(t, byState.stateSync.Join(t.Context(), at, []consensus.Peer{&peerOf{ahead: a, name: "a"}}))
	byState.enter()
	for _, b := range a.blocks[first:] {
		byState.finalize(b)
		byState.commitABCI()
	}

	// As init --from leaves a home: with the genesis of the epoch, and without a state.
	genesis, err := os.ReadFile(comethome.GenesisPath(comethome.Dir(one)))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(comethome.GenesisPath(comethome.Dir(third)), genesis, 0o600))
	require.NoError(t, comethome.SetStateSync(comethome.Dir(third), comethome.StateSync{Height: middle,
		RPC: []string{"127.0.0.1:1", "127.0.0.1:2"}, Hash: strings.Repeat("A", 64)}))
	bySync := driveABCI(t, third, WithRounds(service))
	defer bySync.close()
	snapshot := &joining{abciHand: a.abciHand}
	snapshot.fetch(middle)
	snapshot.give(bySync, middle)

	joined := map[string]*abciHand{"the state at F": byState, "state sync": bySync}
	for how, b := range joined {
		require.Equal(t, open, fsm(b), how)
	}

	s = vote(2)
	require.NotEqual(t, open, fsm(a.abciHand))
	require.Contains(t, fsm(a.abciHand), "Sum:2", "the third vote has ended the round")
	for how, b := range joined {
		require.Equal(t, s.AppHash, b.finalize(a.last()).AppHash, how)
		b.commitABCI()
		require.Equal(t, fsm(a.abciHand), fsm(b), how)
	}
}

// fsm returns the state of a service that adds.
func (a *abciHand) fsm() rounds.State[tallied] {
	a.t.Helper()
	st, _, err := replicated.Read[tallied](func(key []byte) ([]byte, bool, error) {
		value, found, _, err := a.store.Get(a.t.Context(), key, 0)
		return value, found, err
	})
	require.NoError(a.t, err)
	return st
}

// say returns the payload of the i-th agent for the round that the chain is in. A chain that has
// not begun is in its first round.
func (a *abciHand) say(s *rounds.Service[tallied], keys []ed25519.PrivateKey, agents []chain.Agent, i int,
	payload string) []byte {
	a.t.Helper()
	st := a.fsm()
	p := rounds.Payload{Agent: rounds.Agent(agents[i].Name), Label: s.LabelOf(st.Round), Count: st.Count,
		Bytes: []byte(payload), ValidUntil: a.clock.Add(time.Minute).Truncate(time.Millisecond)}
	raw, err := p.Tx("test", keys[i]).Encode()
	require.NoError(a.t, err)
	return raw
}

// Whatever dies in the middle of a round, the round goes on with its votes: the core of the node,
// the node between the decision on a block and its commit, which CometBFT then delivers again, and
// CometBFT itself within a frame. Items 13 and 14.
func TestARoundGoesOnOverKillsOfTheNodeAndOfCometBFT(t *testing.T) {
	keys, agents := agentKeys(4)
	dir := initABCIWith(t, func(o *home.InitOptions) { o.Agents = agents })
	service := adding(nil, time.Hour)
	a := driveABCI(t, dir, WithRounds(service))
	a.initValidators()
	next := func(txs ...[]byte) comettest.Block {
		s, err := a.store.State(t.Context())
		require.NoError(t, err)
		return a.block(int64(s.Next()), txs...)
	}
	deliver := func(b comettest.Block) comettest.Finalized {
		f := a.finalize(b)
		a.commitABCI()
		return f
	}
	deliver(next())
	round, first := a.fsm().Round, a.fsm().Count
	deliver(next(a.say(service, keys, agents, 0, "2")))

	a.cut("coppice/node/transactions/storage")
	a.again()
	require.Len(t, a.fsm().Ballot.Votes, 1)

	b := next(a.say(service, keys, agents, 1, "2"))
	decided := a.finalize(b)
	clock := a.clock
	a.close()
	a = driveABCI(t, dir, WithRounds(service))
	a.clock = clock
	height, _ := a.info()
	require.Equal(t, b.Height-1, height)
	require.Equal(t, decided.AppHash, deliver(b).AppHash, "the block that is delivered again")

	partial, err := comettest.Dial(a.c.Conn.RemoteAddr().String())
	require.NoError(t, err)
	_, err = partial.Conn.Write(comettest.Frame(make([]byte, 100))[:50])
	require.NoError(t, err)
	require.NoError(t, partial.Close())
	a.cut("coppice/node/engines/consensus/process")
	a.again()
	height, _ = a.info()
	require.Equal(t, b.Height, height)

	require.Len(t, a.fsm().Ballot.Votes, 2)
	require.Equal(t, []any{round, first}, []any{a.fsm().Round, a.fsm().Count}, "the same round goes on")
	deliver(next(a.say(service, keys, agents, 2, "2")))
	require.Equal(t, first+1, a.fsm().Count)
	require.Equal(t, 2, a.fsm().App.Sum)
	a.close()
}
