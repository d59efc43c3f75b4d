package node

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	"github.com/coppice-go/coppice/engines/rounds/replicated"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/offline"
	"github.com/coppice-go/coppice/node/plan"
)

// On CometBFT without empty blocks, the timeout of a round whose agent is silent comes at most two
// seconds after its deadline: the tick wakes the consensus, an empty block brings a fresh time, and
// the next one fires it. Verify executes the blocks again. Checklist 71.
func TestATickBringsATimeoutOnCometBFT(t *testing.T) {
	keys, agents := agentKeys(1)
	base, err := os.MkdirTemp("", "rounds") // t.TempDir is too long for a socket's path
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(base) })
	dir := filepath.Join(base, "home")
	_, err = home.Init(dir, home.InitOptions{
		ChainID: "test", Listen: "127.0.0.1:0", Profile: plan.Chaos, Agents: agents,
		Set:       []config.Assignment{{Key: "consensus.kind", Value: comet.Name}},
		Consensus: comet.InitOptions{P2P: "127.0.0.1:0", RPC: "127.0.0.1:0"}})
	require.NoError(t, err)
	writeAgentKey(t, dir, keys[0])

	const timeout = time.Second
	var hung, woken atomic.Int64
	done := make(chan struct{}, 100)
	service := adding(func(ctx context.Context, s tallied) (int, error) {
		switch {
		case s.Sum == 2 && hung.CompareAndSwap(0, time.Now().UnixNano()):
			<-ctx.Done() // silent until the timeout
			woken.Store(time.Now().UnixNano())
			return 0, ctx.Err()
		case s.Sum == 3:
			done <- struct{}{}
			<-ctx.Done()
			return 0, ctx.Err()
		}
		return 1, nil
	}, timeout)

	h := driveHome(t, dir, WithRounds(service), withKind(comet.Kind{Command: []string{os.Args[0], child.Command,
		"--steps", "", "--all=false"}}))
	<-done
	late := time.Duration(woken.Load()-hung.Load()) - timeout
	if os.Getenv("COPPICE_SOAK") != "" { // which wants a quiet machine
		require.Less(t, late, 2*time.Second)
	}
	t.Logf("the timeout came %v after its deadline", late)
	h.close()

	v, err := offline.Verify(t.Context(), dir, offline.VerifyOptions{
		Backends: []chain.Backend{replicated.New(service)}})
	require.NoError(t, err)
	require.LessOrEqual(t, v.Blocks, uint64(20), "an idle chain makes no blocks")
	t.Logf("%d blocks, %d transactions", v.Blocks, v.Txs)
}

// withKind makes k the node's kind, instead of the driver by hand.
func withKind(k comet.Kind) Option {
	return func(n *Node) { n.kind, n.driver = k, nil }
}
