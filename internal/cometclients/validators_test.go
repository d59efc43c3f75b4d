package cometclients

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/cometbft/cometbft/types"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/home"
)

// gauge extends votes with the text that the test sets, accepts other validators' extensions up to
// a length, and counts them.
type gauge struct {
	mu       sync.Mutex
	says     string
	longest  int
	accepted map[string]int // by text
	refused  map[string]int
	proposed map[string]bool // by text: in the votes of one of our proposals
}

func newGauge(says string) *gauge {
	return &gauge{says: says, longest: 3, accepted: map[string]int{}, refused: map[string]int{},
		proposed: map[string]bool{}}
}

func (g *gauge) set(says string, longest int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.says, g.longest = says, longest
}

func (g *gauge) ExtendVote(context.Context, consensus.Vote) ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return []byte(g.says), nil
}

func (g *gauge) VerifyVoteExtension(_ context.Context, _ consensus.Vote, extension []byte) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(extension) > g.longest {
		g.refused[string(extension)]++
		return false
	}
	g.accepted[string(extension)]++
	return true
}

// Propose returns a transaction, so that block follows block.
func (g *gauge) Propose(_ context.Context, height uint64, votes []consensus.ExtendedVote) ([][]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, v := range votes {
		g.proposed[string(v.Extension)] = true
	}
	return [][]byte{fmt.Appendf(nil, "height=%d", height)}, nil
}

// await waits until ok holds for the counts of the other validator's extensions.
func (g *gauge) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.NoError(t, patient(t, func() error {
		g.mu.Lock()
		defer g.mu.Unlock()
		if !ok() {
			return fmt.Errorf("%s: accepted %v, refused %v, proposed %v", what, g.accepted, g.refused, g.proposed)
		}
		return nil
	}))
}

// Two validators are both needed for a block. An extension that one accepts from the other reaches
// its proposals. A vote whose extension it refuses does not count: the chain stands still until it
// accepts the extension, and then continues. Only COPPICE_SOAK=1 runs the whole test, because
// CometBFT dials after up to 3 s.
func TestAnExtensionIsVerifiedByTheOtherValidator(t *testing.T) {
	if os.Getenv("COPPICE_SOAK") == "" {
		t.Log("the short form is TestAnExtensionIsJudgedByTheExtender of package comet")
		return
	}

	homes := []string{newHome(t, home.InitOptions{})}
	genesis, err := home.ReadGenesis(homes[0])
	require.NoError(t, err)
	homes = append(homes, newHome(t, home.InitOptions{Genesis: &genesis}))
	var set []comethome.Validator
	var peers []string

	for _, home := range homes {
		dir := comethome.Dir(home)
		p2p := freePort(t)
		id, err := comethome.ReadIdentity(dir)
		require.NoError(t, err)
		id.Validator.Power = 10
		set, peers = append(set, id.Validator), append(peers, id.NodeID+"@"+p2p)
		require.NoError(t, comethome.SetNetwork(dir, comethome.Network{P2P: p2p}))
	}

	require.NoError(t, comethome.Carry(comethome.Dir(homes[0]), genesis, comethome.Genesis{Validators: set}))
	theirs, err := comethome.ReadGenesis(comethome.Dir(homes[0]))
	require.NoError(t, err)
	theirs.VoteExtensionsHeight = 2
	gauges := []*gauge{newGauge("11"), newGauge("21")}
	var nodes []*running

	for i, home := range homes {
		require.NoError(t, comethome.WriteGenesis(comethome.Dir(home), theirs))
		require.NoError(t, comethome.SetNetwork(comethome.Dir(home), comethome.Network{Peers: []string{peers[1-i]}}))
		nodes = append(nodes, startWith(t, home, comet.Kind{Extender: gauges[i]}))
	}

	one, other := gauges[0], gauges[1]
	n := 0
	// The first blocks. From the second on votes are extended, and Propose starts the next block.
	require.NoError(t, patient(t, func() error {
		n++
		c, err := nodes[0].rpc.BroadcastTxCommit(t.Context(), types.Tx(fmt.Sprintf("first=%d", n)))
		if err == nil && c.Height < 2 {
			err = fmt.Errorf("at height %d", c.Height)
		}
		return err
	}))
	one.await(t, "accepted", func() bool { return one.accepted["21"] > 0 && one.proposed["21"] })
	other.await(t, "accepted on the other side", func() bool {
		return other.accepted["11"] > 0 && other.proposed["11"]
	})
	require.Empty(t, one.refused)

	other.set("too much", 10)
	one.await(t, "refused", func() bool { return one.refused["too much"] > 0 })
	stands := nodes[0].status().Height
	one.await(t, "refused whenever it comes", func() bool { return one.refused["too much"] > 3 })
	require.LessOrEqual(t, nodes[0].status().Height, stands+1, "the vote is needed for each block")
	require.False(t, one.proposed["too much"])

	one.set("12", 10)
	one.await(t, "taken", func() bool { return one.accepted["too much"] > 0 && one.proposed["too much"] })
	other.await(t, "on", func() bool { return other.proposed["12"] })
}
