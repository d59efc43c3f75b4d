package node

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/solo"
	"github.com/coppice-go/coppice/engines/rounds/replicated"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/offline"
	"github.com/coppice-go/coppice/node/plan"
)

// In the mode prune, the end of a period drops the history: chain id, epoch and heights go on,
// nothing restarts, and CometBFT keeps no block before the decision. Item 48.
func TestPruneNeedsNoRestart(t *testing.T) {
	t.Run("solo", func(t *testing.T) {
		dir, at := pruneByRounds(t, home.InitOptions{}, WithDriver(solo.Solo{}))
		require.Positive(t, at)
		require.NoDirExists(t, comethome.Dir(dir))
	})

	t.Run("cometbft", func(t *testing.T) {
		dir, at := pruneByRounds(t, home.InitOptions{
			Set:       []config.Assignment{{Key: "consensus.kind", Value: comet.Name}},
			Consensus: comet.InitOptions{P2P: "127.0.0.1:0", RPC: "127.0.0.1:0"},
		}, withKind(comet.Kind{Command: []string{os.Args[0], child.Command, "--steps", "", "--all=false"}}))

		open, closeAll, err := comethome.OpenDatabases(comethome.Dir(dir))
		require.NoError(t, err)
		defer closeAll()
		f, err := comethome.Freeze(t.Context(), open)
		require.NoError(t, err)
		defer f.Release()
		require.EqualValues(t, at, f.Base, "blocks begin with the last decision")
		require.NoFileExists(t, filepath.Join(comethome.Dir(dir), "config", "genesis-0.json"))
	})
}

// pruneByRounds runs a service that prunes its chain each second period. It returns the home of the
// stopped node and the height of the last decision.
func pruneByRounds(t *testing.T, o home.InitOptions, kind Option) (dir string, at uint64) {
	t.Helper()
	keys, agents := agentKeys(1)
	base, err := os.MkdirTemp("", "prune") // t.TempDir is too long for a socket's path
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(base) })
	dir = filepath.Join(base, "home")
	o.ChainID, o.Listen, o.Profile, o.Agents, o.ResetMode = "test", "127.0.0.1:0", plan.Chaos, agents, chain.Prune
	_, err = home.Init(dir, o)
	require.NoError(t, err)
	writeAgentKey(t, dir, keys[0])

	const periods = 7
	done := make(chan struct{})
	service := resetting(periods, 2, done)
	h := driveHome(t, dir, WithRounds(service), kind)
	<-done

	s, err := h.store.State(t.Context())
	require.NoError(t, err)
	require.Equal(t, "test", s.ChainID)
	require.Zero(t, s.Period)
	require.Nil(t, s.Reset, "the chain is never in hold")
	b, found, _, err := h.store.Get(t.Context(), []byte(chain.PruneKey), 0)
	require.NoError(t, err)
	require.True(t, found)
	p, err := chain.DecodePruned(b)
	require.NoError(t, err)
	require.LessOrEqual(t, p.Height, s.Height)
	for _, f := range h.Supervisor().Tree().Children {
		require.Zero(t, f.Restarts, f.Path)
	}

	// One more block, so that the last decision is also that of a commit before the stop.
	before := s.Height
	require.Eventually(t, func() bool {
		_, err := h.pool.Submit(t.Context(), [][]byte{h.tx(kv.Add([]byte("n"), 1), time.Minute)})
		if err != nil {
			return false
		}
		s, err = h.store.State(t.Context())
		return err == nil && s.Height > before
	}, time.Minute, 20*time.Millisecond)
	h.close()

	v, err := offline.Verify(t.Context(), dir, offline.VerifyOptions{
		Backends: []chain.Backend{replicated.New(service)}})
	require.NoError(t, err)
	require.Zero(t, v.Resets)
	require.GreaterOrEqual(t, v.Height, s.Height)

	return dir, p.Height
}
