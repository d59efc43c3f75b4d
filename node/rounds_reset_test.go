package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/backend/governance"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/solo"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/engines/rounds/replicated"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/offline"
	"github.com/coppice-go/coppice/node/plan"
)

// A service resets its chain each second period, and goes on in the next epoch with the same state,
// on solo and with CometBFT. Verify executes all epochs again, whatever the files of the genesis
// say by then: the first validators are those of the log. Checklist 15, 22, 52 and 56.
func TestAServiceResetsItsChain(t *testing.T) {
	resets := func(few uint64) uint64 {
		if os.Getenv("COPPICE_SOAK") != "" {
			return 50
		}
		return few
	}

	t.Run("solo", func(t *testing.T) {
		resetByRounds(t, resets(12), home.InitOptions{}, WithDriver(solo.Solo{}))
	})

	t.Run("cometbft", func(t *testing.T) {
		resetByRounds(t, resets(3), home.InitOptions{
			Set:       []config.Assignment{{Key: "consensus.kind", Value: comet.Name}},
			Consensus: comet.InitOptions{P2P: "127.0.0.1:0", RPC: "127.0.0.1:0"},
		}, withKind(comet.Kind{Command: []string{os.Args[0], child.Command, "--steps", "", "--all=false"}}))
	})
}

func resetByRounds(t *testing.T, resets uint64, o home.InitOptions, kind Option) {
	t.Helper()
	governor := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	o.GovernanceKey = governor.Public().(ed25519.PublicKey)
	keys, agents := agentKeys(1)
	base, err := os.MkdirTemp("", "rounds") // t.TempDir is too long for a socket's path
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(base) })
	dir := filepath.Join(base, "home")
	o.ChainID, o.Listen, o.Profile, o.Agents, o.ResetOffset = "test", "127.0.0.1:0", plan.Chaos, agents, 20
	_, err = home.Init(dir, o)
	require.NoError(t, err)
	writeAgentKey(t, dir, keys[0])

	periods := int(2*resets + 1)
	done := make(chan struct{})
	service := resetting(periods, 2, done)
	h := driveHome(t, dir, WithRounds(service), kind)
	validator, withComet := comethome.ReadIdentity(comethome.Dir(dir))
	if withComet == nil {
		body, err := governance.Sign(governor, governance.Change{ChainID: "test", Sequence: 1,
			Updates: []governance.Validator{{PubKey: validator.Validator.PubKey, Power: 11}}})
		require.NoError(t, err)
		tx := chain.NewTx(governance.Name, body, time.Minute)
		raw, err := tx.Encode()
		require.NoError(t, err)
		require.Eventually(t, func() bool { // once the chain has begun
			out, err := h.pool.Submit(t.Context(), [][]byte{raw})
			return err == nil && out[0].Err == nil
		}, time.Minute, 10*time.Millisecond)
	}
	<-done
	s, err := h.store.State(t.Context())
	require.NoError(t, err)
	require.Equal(t, resets, s.Period, "each second period has reset the chain")
	require.Equal(t, fmt.Sprintf("test-%d", resets), s.ChainID)

	res, err := http.Get("http://" + h.addr() + "/healthcheck")
	require.NoError(t, err)
	defer res.Body.Close()
	var health healthcheck
	require.NoError(t, json.NewDecoder(res.Body).Decode(&health))
	require.GreaterOrEqual(t, health.Period, 2*resets, "the follower of the log may be a block behind")
	require.Contains(t, health.Rounds, rounds.ResetAndPause)
	require.NotNil(t, health.Seconds)
	h.close()

	if withComet == nil {
		last, err := comethome.ReadGenesis(comethome.Dir(dir))
		require.NoError(t, err)
		require.EqualValues(t, 11, last.Validators[0].Power, "the set has changed")
		rewriteFirstGenesis(t, dir)
	}
	began := time.Now()
	v, err := offline.Verify(t.Context(), dir, offline.VerifyOptions{
		Backends: []chain.Backend{replicated.New(service)}})
	require.NoError(t, err)
	require.GreaterOrEqual(t, v.Height, s.Height)
	t.Logf("verify has executed %d blocks of %d epochs again in %v", v.Blocks, s.Period+1,
		time.Since(began).Round(time.Millisecond))

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

// rewriteFirstGenesis gives the genesis of epoch 0 that a home keeps other validators than those
// that the chain began with.
func rewriteFirstGenesis(t *testing.T, dir string) {
	t.Helper()
	first, err := comethome.ReadFirstGenesis(comethome.Dir(dir))
	require.NoError(t, err)
	require.Equal(t, "test", first.ChainID)

	path := filepath.Join(comethome.Dir(dir), "config", "genesis-0.json")
	now := comethome.GenesisPath(comethome.Dir(dir))
	was, err := os.ReadFile(now)
	require.NoError(t, err)
	first.Validators[0].PubKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize)).
		Public().(ed25519.PublicKey)
	require.NoError(t, comethome.WriteGenesis(comethome.Dir(dir), first))
	require.NoError(t, os.Rename(now, path))
	require.NoError(t, os.WriteFile(now, was, 0o600))
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
