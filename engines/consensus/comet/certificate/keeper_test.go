package certificate

import (
	"context"
	"fmt"
	"testing"

	"github.com/cometbft/cometbft/crypto/tmhash"
	"github.com/cometbft/cometbft/types"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/storage/apphash"
)

// changing returns the blocks of a chain of epoch 0 whose validators are all replaced by others at
// each thirtieth height.
func changing(t *testing.T, height int64, edit func(*types.Header)) *types.LightBlock {
	set := func(height int64) quorum { return newQuorum(3 + int(min(height/30, 3))) }
	return set(height).after(t, 0, height, nil, func(h *types.Header) {
		h.NextValidatorsHash = set(height + 1).set.Hash()
		if edit != nil {
			edit(h)
		}
	})
}

// The keeper keeps the blocks on the way before they are removed, also over restarts, and no more
// than a light client needs.
func TestTheKeeperIsAheadOfTheRemoval(t *testing.T) {
	home, kept := t.TempDir(), uint64(0)
	var k *Keeper
	fetch := func(_ context.Context, height int64) (*types.LightBlock, error) {
		if uint64(height) < kept {
			return nil, fmt.Errorf("block %d was removed", height)
		}
		return changing(t, height, nil), nil
	}

	for height := uint64(1); height <= 80; height++ {
		if height%33 == 1 { // a restart
			k = &Keeper{Home: home, Fetch: fetch, Step: 4}
		}
		now, err := k.Follow(t.Context(), chain.State{ChainID: "test", InitialHeight: 1, Height: height})
		require.NoError(t, err, "height %d", height)
		require.GreaterOrEqual(t, now+4, height, "the removal goes on")
		kept = max(kept, now)
	}

	f := changing(t, 80, nil)
	root := tmhash.Sum(nil)
	held := newQuorum(5).after(t, 0, 81, f, func(h *types.Header) { h.AppHash = apphash.Of(root, 0) })
	c := Certificate{f, held, newQuorum(5).set, root}
	require.NoError(t, k.Before(t.Context(), chain.State{ChainID: "test", InitialHeight: 1, Height: 81}, c))
	b, err := c.Encode()
	require.NoError(t, err)
	require.NoError(t, comethome.Certificate.Write(home, 0, b))

	begin := newQuorum(5).after(t, 1, 101, nil, func(h *types.Header) {
		h.AppHash, h.Time = apphash.Of(root, 1), f.Time
	})
	kept = 0
	next := &Keeper{Home: home, Fetch: func(context.Context, int64) (*types.LightBlock, error) { return begin, nil }}
	_, err = next.Follow(t.Context(), chain.State{ChainID: "test-1", Period: 1, InitialHeight: 101, Height: 101})
	require.NoError(t, err)

	epochs, err := Load(comethome.CertificateDir(home))
	require.NoError(t, err)
	begins, err := Client{}.Carry(Trust{Block: epochs[0].First}, epochs)
	require.NoError(t, err)
	require.Equal(t, begin.Hash(), begins[0].Block.Hash())
	require.LessOrEqual(t, len(epochs[0].Way), 10)
	epochs[0].Way = nil
	_, err = Client{}.Carry(Trust{Block: epochs[0].First}, epochs)
	require.ErrorIs(t, err, ErrSignatures, "without the way nobody comes there")
}

// Where the first block is gone already, the keeper says so, and keeps nothing that is wrong.
func TestTheKeeperWithoutAFirstBlock(t *testing.T) {
	gone := fmt.Errorf("block 1 was removed")
	k := &Keeper{Home: t.TempDir(), Fetch: func(context.Context, int64) (*types.LightBlock, error) { return nil, gone }}
	kept, err := k.Follow(t.Context(), chain.State{ChainID: "test", InitialHeight: 1, Height: 70})
	require.ErrorIs(t, err, gone)
	require.Zero(t, kept)
	require.ErrorIs(t, k.Before(t.Context(), chain.State{ChainID: "test", InitialHeight: 1}, Certificate{}), gone)
}
