package child

import (
	"testing"
	"time"

	dbm "github.com/cometbft/cometbft-db"
	"github.com/cometbft/cometbft/crypto/ed25519"
	sm "github.com/cometbft/cometbft/state"
	"github.com/cometbft/cometbft/store"
	"github.com/cometbft/cometbft/types"
	"github.com/stretchr/testify/require"
)

// A kill between the first block and the state after it leaves CometBFT's databases in a way from
// which it never starts, if the chain begins above height 1.
func TestAKillInTheFirstBlockIsMended(t *testing.T) {
	for _, c := range []struct {
		initial int64
		stored  bool
		want    int64
	}{{30, true, 29}, {30, false, 0}, {1, true, 0}} {
		key := ed25519.GenPrivKey()
		doc := &types.GenesisDoc{ChainID: "test-1", GenesisTime: time.Unix(1000, 0), InitialHeight: c.initial,
			ConsensusParams: types.DefaultConsensusParams(),
			Validators:      []types.GenesisValidator{{PubKey: key.PubKey(), Power: 10}}}
		require.NoError(t, doc.ValidateAndComplete())
		state, err := sm.MakeGenesisState(doc)
		require.NoError(t, err)
		states := dbm.NewMemDB()
		s := sm.NewStore(states, sm.StoreOptions{})
		require.NoError(t, s.Save(state))

		blocks := store.NewBlockStore(dbm.NewMemDB())
		if c.stored {
			b, _ := state.MakeBlock(c.initial, nil, &types.Commit{}, nil, key.PubKey().Address())
			parts, err := b.MakePartSet(types.BlockPartSizeBytes)
			require.NoError(t, err)
			id := types.BlockID{Hash: b.Hash(), PartSetHeader: parts.Header()}
			seen := &types.Commit{Height: c.initial, BlockID: id}
			blocks.SaveBlock(b, parts, seen)
		}

		for range 2 { // a start that is cut short leaves the same
			require.NoError(t, mend(blocks, states))
			got, err := s.Load()
			require.NoError(t, err)
			require.Equal(t, c.want, got.LastBlockHeight, "%+v", c)
			require.Equal(t, state.Validators.Hash(), got.Validators.Hash())
			set, err := s.LoadValidators(c.initial)
			require.NoError(t, err)
			require.Equal(t, state.Validators.Hash(), set.Hash())
		}
	}
}
