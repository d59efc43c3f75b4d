package node

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/rounds/replicated"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/offline"
	"github.com/coppice-go/coppice/node/peers"
	"github.com/coppice-go/coppice/node/plan"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Four validators with an agent each reset their chain every second period, all at the same F, and
// go on with the same state. Their peers say where they stand, signed by their agents. Items 15,
// 17, 22, 38 and 49.
func TestAServiceOfFourValidatorsResetsTheirChain(t *testing.T) {
	keys, agents := agentKeys(4)
	base, err := os.MkdirTemp("", "rounds") // t.TempDir is too long for a socket's path
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(base) })

	var genesis *chain.Genesis
	var set []comethome.Validator
	var dirs, ids, p2p, apis []string
	for range keys {
		p2p, apis = append(p2p, freeAddress(t)), append(apis, freeAddress(t))
	}
	for i, key := range keys {
		dir := filepath.Join(base, fmt.Sprint(i))
		others := slices.Delete(slices.Clone(apis), i, i+1)
		g, err := home.Init(dir, home.InitOptions{
			ChainID: "test", Listen: apis[i], Profile: plan.Chaos, Agents: agents, ResetOffset: 20, Genesis: genesis,
			Set: []config.Assignment{{Key: "consensus.kind", Value: comet.Name},
				{Key: "reset.peers", Value: strings.Join(others, ",")}},
			Consensus: comet.InitOptions{P2P: "127.0.0.1:0", RPC: "127.0.0.1:0"},
		})
		require.NoError(t, err)
		writeAgentKey(t, dir, key)
		id, err := comethome.ReadIdentity(comethome.Dir(dir))
		require.NoError(t, err)
		id.Validator.Power = 10
		genesis, dirs, ids, set = &g, append(dirs, dir), append(ids, id.NodeID), append(set, id.Validator)
	}
	for i, dir := range dirs {
		var others []string
		for j := range dirs {
			if j != i {
				others = append(others, ids[j]+"@"+p2p[j])
			}
		}
		require.NoError(t, comethome.Carry(comethome.Dir(dir), *genesis, comethome.Genesis{Validators: set}))
		require.NoError(t, comethome.SetNetwork(comethome.Dir(dir), comethome.Network{P2P: p2p[i], RPC: "127.0.0.1:0",
			Peers: others}))
	}

	const periods = 3
	var nodes []*hand
	var done []chan struct{}
	for _, dir := range dirs {
		over := make(chan struct{})
		done = append(done, over)
		nodes = append(nodes, driveHome(t, dir, WithRounds(resetting(periods, 2, over)),
			withKind(comet.Kind{Command: []string{os.Args[0], child.Command, "--steps", "", "--all=false"}})))
	}
	for _, over := range done {
		<-over
	}

	for i, n := range nodes {
		s, err := n.store.State(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 1, s.Period, "of 3 periods the 2nd has reset the chain")
		require.Equal(t, "test-1", s.ChainID)
		c, err := config.Load(dirs[i])
		require.NoError(t, err)
		list, closeIdle, err := peers.Open(dirs[i], c, *genesis)
		require.NoError(t, err)
		for j, p := range list {
			at, err := p.Standing(t.Context())
			require.NoError(t, err)
			require.Equal(t, slices.Delete([]string{"agent0", "agent1", "agent2", "agent3"}, i, i+1)[j], at.Agent)
			proofs, err := p.Certificates(t.Context(), 0)
			require.NoError(t, err)
			require.Len(t, proofs, 1)
			require.Equal(t, at.Agent, proofs[0].Agent)
		}
		closeIdle()
	}
	for _, n := range nodes {
		n.close()
	}

	var at []uint64
	for _, dir := range dirs {
		_, err := offline.Verify(t.Context(), dir, offline.VerifyOptions{
			Backends: []chain.Backend{replicated.New(resetting(periods, 2, make(chan struct{})))}})
		require.NoError(t, err)
		b, err := comethome.ReadGenesis(comethome.Dir(dir))
		require.NoError(t, err)
		at = append(at, b.InitialHeight)
	}
	require.Equal(t, []uint64{at[0], at[0], at[0], at[0]}, at, "all were reset at one F")
	requireNothingInTheHold(t, dirs, at[0]-20)
}

// requireNothingInTheHold fails unless the held block, which follows the decision in block F of
// epoch 0, has changed nothing on any node: no key, result, validator, failure of a hook or end of
// a transaction is recorded between block F and the next epoch, and the state is that of F. Item
// 38.
func requireNothingInTheHold(t *testing.T, dirs []string, f uint64) {
	t.Helper()
	var hashes [][]byte
	for _, dir := range dirs {
		var decided, held *logv1.BlockCommitted
		l, err := eventlog.OpenReadOnly(home.LogDir(dir), eventlog.Options{})
		require.NoError(t, err)
		defer l.Close()
		for e, err := range chain.Records(l.Cursor, 1, chain.End) {
			require.NoError(t, err)
			if e.Kind == chain.KindChainReset {
				break
			}
			m, err := chain.DecodeRecord(e)
			require.NoError(t, err)
			switch m := m.(type) {
			case *logv1.BlockCommitted:
				if decided != nil {
					require.Nil(t, held, "one block is held")
					held = m
				} else if m.Height == f {
					decided = m
				}
			case *logv1.OrderDecided:
				require.True(t, decided == nil || len(m.Txs) == 0, "the held block is empty")
			case *logv1.TxExpired:
				require.Nil(t, decided, "nothing expires in the hold")
			}
		}
		require.NotEmpty(t, decided.Changes)
		require.Equal(t, f+1, held.Height)
		require.Empty(t, held.Changes)
		require.Empty(t, held.Results)
		require.Empty(t, held.Validators)
		require.Empty(t, held.HookFailures)
		require.Equal(t, decided.AppHash, held.AppHash)
		hashes = append(hashes, held.AppHash)
	}
	require.Equal(t, [][]byte{hashes[0], hashes[0], hashes[0], hashes[0]}, hashes)
}

// freeAddress returns an address of this machine on which nobody listens. Its port is below those
// that the system gives to connections, which would take it while nobody listens there.
func freeAddress(t *testing.T) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10240+rand.IntN(20000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
}
