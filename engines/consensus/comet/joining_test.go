package comet

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	cfg "github.com/cometbft/cometbft/config"
	sm "github.com/cometbft/cometbft/state"
	"github.com/cometbft/cometbft/store"
	"github.com/cometbft/cometbft/types"
	"github.com/stretchr/testify/require"
)

// stores are CometBFT's two databases of a home.
func stores(t *testing.T, c *cfg.Config, use func(sm.Store, *store.BlockStore)) {
	t.Helper()
	states, err := cfg.DefaultDBProvider(&cfg.DBContext{ID: "state", Config: c})
	require.NoError(t, err)
	blocks, err := cfg.DefaultDBProvider(&cfg.DBContext{ID: "blockstore", Config: c})
	require.NoError(t, err)
	s, b := sm.NewStore(states, sm.StoreOptions{}), store.NewBlockStore(blocks)
	use(s, b)
	require.NoError(t, s.Close())
	require.NoError(t, b.Close())
}

// CometBFT notes a state that it took and the commit of its block one after the other, and panics
// at its next start until it has a block on top. With both it is told where to go on; with one, the
// state sync begins anew. Its signing state stays in any case.
func TestAStateThatWasTakenAndHasNoBlockYet(t *testing.T) {
	home := t.TempDir()
	_, err := InitHome(home, HomeOptions{P2P: "127.0.0.1:0", RPC: "127.0.0.1:0"})
	require.NoError(t, err)
	id, err := ReadIdentity(home)
	require.NoError(t, err)
	id.Validator.Power = 1
	require.NoError(t, WriteGenesis(home,
		Genesis{ChainID: "test", Time: time.Now(), Validators: []Validator{id.Validator}}))
	c, err := loadConfig(home)
	require.NoError(t, err)
	height, err := settleStateSync(c)
	require.NoError(t, err)
	require.Zero(t, height, "nothing has begun")

	doc, err := types.GenesisDocFromFile(c.GenesisFile())
	require.NoError(t, err)
	state, err := sm.MakeGenesisState(doc)
	require.NoError(t, err)
	state.LastBlockHeight, state.LastValidators = 20, state.Validators
	state.LastHeightValidatorsChanged, state.LastHeightConsensusParamsChanged = 22, 21

	stores(t, c, func(s sm.Store, b *store.BlockStore) {
		require.NoError(t, s.Bootstrap(state))
		id := types.BlockID{Hash: make([]byte, 32),
			PartSetHeader: types.PartSetHeader{Total: 1, Hash: make([]byte, 32)}}
		id.Hash[0] = 1
		require.NoError(t, b.SaveSeenCommit(20,
			&types.Commit{Height: 20, BlockID: id, Signatures: []types.CommitSig{types.NewCommitSigAbsent()}}))
	})
	height, err = settleStateSync(c)
	require.NoError(t, err)
	require.EqualValues(t, 20, height)
	stores(t, c, func(s sm.Store, _ *store.BlockStore) {
		h, err := s.GetOfflineStateSyncHeight()
		require.NoError(t, err)
		require.EqualValues(t, 20, h)
	})

	for _, name := range []string{"state.db", "blockstore.db"} {
		require.NoError(t, os.RemoveAll(filepath.Join(c.DBDir(), name)))
	}

	stores(t, c, func(s sm.Store, _ *store.BlockStore) { require.NoError(t, s.Bootstrap(state)) })
	height, err = settleStateSync(c)
	require.NoError(t, err)
	require.Zero(t, height)
	stores(t, c, func(s sm.Store, _ *store.BlockStore) {
		now, err := s.Load()
		require.NoError(t, err)
		require.True(t, now.IsEmpty())
	})
	require.FileExists(t, c.PrivValidatorStateFile())
}

func TestWhatTheLightClientVouchesFor(t *testing.T) {
	home := t.TempDir()
	_, err := readTrusted(home)
	require.ErrorIs(t, err, os.ErrNotExist)
	is := trusted{Height: 7, AppHash: []byte{1, 2}, BlockHash: []byte{3}, Time: time.Unix(1, 234567891).UTC()}
	require.NoError(t, writeTrusted(home, is))
	read, err := readTrusted(home)
	require.NoError(t, err)
	require.Equal(t, is, read)
	require.NoError(t, os.WriteFile(trustedPath(home), []byte("{"), 0o600))
	_, err = readTrusted(home)
	require.Error(t, err)
}

func TestAStateSyncThatCometBFTWouldNotTakeIsRefused(t *testing.T) {
	home := t.TempDir()
	_, err := InitHome(home, HomeOptions{P2P: "127.0.0.1:0", RPC: "127.0.0.1:0"})
	require.NoError(t, err)
	const hash = "0101010101010101010101010101010101010101010101010101010101010101"
	good := StateSync{RPC: []string{"127.0.0.1:1", "127.0.0.1:2"}, Height: 5, Hash: hash}
	for what, s := range map[string]StateSync{
		"one node":   {RPC: good.RPC[:1], Height: 5, Hash: hash},
		"no height":  {RPC: good.RPC, Hash: hash},
		"no hash":    {RPC: good.RPC, Height: 5},
		"short hash": {RPC: good.RPC, Height: 5, Hash: "01"},
		"odd hash":   {RPC: good.RPC, Height: 5, Hash: "0"},
		"period":     {RPC: good.RPC, Height: 5, Hash: hash, Period: -1},
	} {
		require.ErrorIs(t, SetStateSync(home, s), ErrHome, what)
	}

	require.NoError(t, SetStateSync(home, good))
	c, err := loadConfig(home)
	require.NoError(t, err)
	require.True(t, c.StateSync.Enable)
	require.Equal(t, good.RPC, c.StateSync.RPCServers)
	require.Equal(t, 7*24*time.Hour, c.StateSync.TrustPeriod)
}
