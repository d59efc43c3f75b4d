package node

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	"github.com/coppice-go/coppice/engines/consensus/solo"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/engines/rounds/replicated"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/offline"
	"github.com/coppice-go/coppice/node/plan"
)

// A service resets its chain each second period, and goes on in the next epoch with the same state,
// on solo and with CometBFT. Verify executes all epochs again. Checklist 15, 22 and 56.
func TestAServiceResetsItsChain(t *testing.T) {
	t.Run("solo", func(t *testing.T) {
		resetByRounds(t, home.InitOptions{}, WithDriver(solo.Solo{}))
	})

	t.Run("cometbft", func(t *testing.T) {
		resetByRounds(t, home.InitOptions{
			Set:       []config.Assignment{{Key: "consensus.kind", Value: comet.Name}},
			Consensus: comet.InitOptions{P2P: "127.0.0.1:0", RPC: "127.0.0.1:0"},
		}, withKind(comet.Kind{Command: []string{os.Args[0], child.Command, "--steps", "", "--all=false"}}))
	})
}

func resetByRounds(t *testing.T, o home.InitOptions, kind Option) {
	t.Helper()
	keys, agents := agentKeys(1)
	base, err := os.MkdirTemp("", "rounds") // t.TempDir is too long for a socket's path
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(base) })
	dir := filepath.Join(base, "home")
	o.ChainID, o.Listen, o.Profile, o.Agents, o.ResetOffset = "test", "127.0.0.1:0", plan.Chaos, agents, 20
	_, err = home.Init(dir, o)
	require.NoError(t, err)
	writeAgentKey(t, dir, keys[0])

	const periods = 5
	done := make(chan struct{})
	service := resetting(periods, 2, done)
	h := driveHome(t, dir, WithRounds(service), kind)
	<-done
	s, err := h.store.State(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, s.Period, "of 5 periods the 2nd and the 4th have reset the chain")
	require.Equal(t, "test-2", s.ChainID)

	res, err := http.Get("http://" + h.addr() + "/healthcheck")
	require.NoError(t, err)
	defer res.Body.Close()
	var health healthcheck
	require.NoError(t, json.NewDecoder(res.Body).Decode(&health))
	require.GreaterOrEqual(t, health.Period, uint64(4), "the follower of the log may be a block behind")
	require.Contains(t, health.Rounds, rounds.ResetAndPause)
	require.NotNil(t, health.Seconds)
	h.close()

	v, err := offline.Verify(t.Context(), dir, offline.VerifyOptions{
		Backends: []chain.Backend{replicated.New(service)}})
	require.NoError(t, err)
	require.GreaterOrEqual(t, v.Height, s.Height)

	// The same table leads to the same outcomes through both resets. Without resets, that of the
	// second period is missing first.
	r, err := offline.ReplayRounds(t.Context(), dir, offline.VerifyOptions{
		Backends: []chain.Backend{replicated.New(service)}})
	require.NoError(t, err)
	require.Nil(t, r.Difference)
	require.Equal(t, []uint64{v.Blocks, s.Period, v.Height}, []uint64{r.Blocks, r.Epoch, r.Height})

	r, err = offline.ReplayRounds(t.Context(), dir, offline.VerifyOptions{
		Backends: []chain.Backend{replicated.New(resetting(periods, 0, done))}})
	require.NoError(t, err)
	require.NotNil(t, r.Difference)
	require.Equal(t, []string{"reset"}, r.Difference.In)
	require.Zero(t, r.Difference.Epoch)
	require.EqualValues(t, 1, r.Difference.Was.Period)
}

// resetting returns a service that adds one in each period, and closes done after so many. Each
// so many periods it resets the chain.
func resetting(periods int, every uint64, done chan struct{}) *rounds.Service[tallied] {
	reached := sync.OnceFunc(func() { close(done) })
	add := func(ctx context.Context, s tallied) (int, error) {
		if s.Sum == periods {
			reached()
			<-ctx.Done()
			return 0, ctx.Err()
		}
		return 1, nil
	}

	return rounds.Compose("ResettingService", rounds.Links{"added": rounds.ResetAndPause,
		rounds.PeriodEnded: "add", rounds.PeriodFailed: "add"},
		rounds.Table[tallied]{Label: "AddingAbciApp", Start: "add", Keep: func(s tallied) tallied { return s },
			Rounds: rounds.Rows[tallied]{
				"add": {Round: rounds.Same(add, func(s tallied, n int) tallied { return tallied{s.Sum + n} }),
					On: rounds.On{rounds.Done: "added", rounds.None: "add", rounds.NoMajority: "add"}},
				"added": {Round: rounds.Final[tallied]()},
			}},
		rounds.ResetApp[tallied](rounds.Every(every), rounds.Pause(10*time.Millisecond)))
}
