package child

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	sm "github.com/cometbft/cometbft/state"
	"github.com/cometbft/cometbft/store"
	"github.com/cometbft/cometbft/types"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/engines/consensus/comet/comettest"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

func TestMain(m *testing.M) {
	// This goroutine ends a second after its Close.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"))
}

// CometBFT writes a fetched state and the commit of its block one after the other, and panics at
// its next start until it has a block on top. If both are there, the state is marked so that
// CometBFT continues from it. If only one is there, the state sync begins anew. The signing state
// stays in either case.
func TestAStateThatWasTakenAndHasNoBlockYet(t *testing.T) {
	home := t.TempDir()
	_, err := comethome.Init(home, comethome.Options{P2P: "127.0.0.1:0", RPC: "127.0.0.1:0"})
	require.NoError(t, err)
	id, err := comethome.ReadIdentity(home)
	require.NoError(t, err)
	id.Validator.Power = 1
	require.NoError(t, comethome.WriteGenesis(home,
		comethome.Genesis{ChainID: "test", Time: time.Now(), Validators: []comethome.Validator{id.Validator}}))
	c, err := comethome.LoadConfig(home)
	require.NoError(t, err)
	height, err := settleStateSync(c)
	require.NoError(t, err)
	require.Zero(t, height, "the chain has not begun")

	doc, err := types.GenesisDocFromFile(c.GenesisFile())
	require.NoError(t, err)
	state, err := sm.MakeGenesisState(doc)
	require.NoError(t, err)
	state.LastBlockHeight, state.LastValidators = 20, state.Validators
	state.LastHeightValidatorsChanged, state.LastHeightConsensusParamsChanged = 22, 21

	require.NoError(t, comettest.Stores(c, func(s sm.Store, b *store.BlockStore) {
		require.NoError(t, s.Bootstrap(state))
		id := types.BlockID{Hash: make([]byte, 32),
			PartSetHeader: types.PartSetHeader{Total: 1, Hash: make([]byte, 32)}}
		id.Hash[0] = 1
		require.NoError(t, b.SaveSeenCommit(20,
			&types.Commit{Height: 20, BlockID: id, Signatures: []types.CommitSig{types.NewCommitSigAbsent()}}))
	}))
	height, err = settleStateSync(c)
	require.NoError(t, err)
	require.EqualValues(t, 20, height)
	require.NoError(t, comettest.Stores(c, func(s sm.Store, _ *store.BlockStore) {
		h, err := s.GetOfflineStateSyncHeight()
		require.NoError(t, err)
		require.EqualValues(t, 20, h)
	}))

	for _, name := range []string{"state.db", "blockstore.db"} {
		require.NoError(t, os.RemoveAll(filepath.Join(c.DBDir(), name)))
	}

	require.NoError(t, comettest.Stores(c, func(s sm.Store, _ *store.BlockStore) {
		require.NoError(t, s.Bootstrap(state))
	}))
	height, err = settleStateSync(c)
	require.NoError(t, err)
	require.Zero(t, height)
	require.NoError(t, comettest.Stores(c, func(s sm.Store, _ *store.BlockStore) {
		now, err := s.Load()
		require.NoError(t, err)
		require.True(t, now.IsEmpty())
	}))
	require.FileExists(t, c.PrivValidatorStateFile())
}
