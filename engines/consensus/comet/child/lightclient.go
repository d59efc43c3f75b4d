package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	cfg "github.com/cometbft/cometbft/config"
	cmtlog "github.com/cometbft/cometbft/libs/log"
	"github.com/cometbft/cometbft/light"
	"github.com/cometbft/cometbft/node"
	sm "github.com/cometbft/cometbft/state"
	"github.com/cometbft/cometbft/statesync"
	"github.com/cometbft/cometbft/store"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// voucher is CometBFT's light client, with one addition: it writes the block that it vouches for to
// a file, which the node reads (comethome.Trusted).
type voucher struct {
	statesync.StateProvider
	data string // directory of CometBFT's databases
}

// AppHash returns the app hash at a height, and writes the block that belongs to it to the file.
// CometBFT calls it before it offers a snapshot at that height.
func (v voucher) AppHash(ctx context.Context, height uint64) ([]byte, error) {
	hash, err := v.StateProvider.AppHash(ctx, height)
	if err != nil {
		return nil, err
	}
	s, err := v.State(ctx, height)
	if err != nil {
		return nil, err
	}
	return hash, comethome.WriteTrusted(v.data,
		comethome.Trusted{Height: height, AppHash: hash, BlockHash: s.LastBlockID.Hash,
			Time: s.LastBlockTime.UTC()})
}

// providerPause is the time between two attempts to reach the RPC servers of the light client.
const providerPause = time.Second

// prepareStateSync settles what a state sync has left behind whose process died (see
// settleStateSync). If there is still a state to fetch, it waits for the RPC servers and returns
// the option with the light client.
func prepareStateSync(ctx context.Context, c *cfg.Config, log cmtlog.Logger) ([]node.Option, error) {
	height, err := settleStateSync(c)
	if err != nil || height > 0 {
		return nil, err
	}
	c.StateSync.TempDir = filepath.Join(c.DBDir(), "statesync")
	if err := errors.Join(os.RemoveAll(c.StateSync.TempDir), os.MkdirAll(c.StateSync.TempDir, 0o700)); err != nil {
		return nil, err
	}
	doc, err := node.DefaultGenesisDocProviderFunc(c)()
	if err != nil {
		return nil, err
	}

	genesis, err := sm.MakeGenesisState(doc)
	if err != nil {
		return nil, err
	}

	log = log.With("module", "statesync")

	for {
		p, err := lightClient(ctx, c.StateSync, genesis, log)
		if err == nil {
			return []node.Option{node.StateProvider(voucher{p, c.DBDir()})}, nil
		}

		log.Error("the light client of the state sync cannot begin, and tries again", "err", err)

		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(providerPause):
		}
	}
}

func lightClient(ctx context.Context, c *cfg.StateSyncConfig, genesis sm.State,
	log cmtlog.Logger) (statesync.StateProvider, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return statesync.NewLightClientStateProvider(ctx, genesis.ChainID, genesis.Version, genesis.InitialHeight,
		c.RPCServers,
		light.TrustOptions{Period: c.TrustPeriod, Height: c.TrustHeight, Hash: c.TrustHashBytes()}, log)
}

// settleStateSync returns the height of CometBFT's state, or 0 if there is none yet. If a state was
// taken and no block was added to it, CometBFT panics at its next start unless the state is marked,
// as CometBFT's own offline state sync marks it. A state without its commit cannot be used at all.
// It is removed, so that the state sync begins anew.
func settleStateSync(c *cfg.Config) (height int64, err error) {
	blocks, err := cfg.DefaultDBProvider(&cfg.DBContext{ID: "blockstore", Config: c})
	if err != nil {
		return 0, fmt.Errorf("%w: %w", comethome.ErrHome, err)
	}
	states, err := cfg.DefaultDBProvider(&cfg.DBContext{ID: "state", Config: c})
	if err != nil {
		return 0, errors.Join(fmt.Errorf("%w: %w", comethome.ErrHome, err), blocks.Close())
	}

	stateStore := sm.NewStore(states, sm.StoreOptions{})
	state, err := stateStore.Load()
	blockStore := store.NewBlockStore(blocks)
	height = state.LastBlockHeight
	torn := false

	if err == nil && height > 0 && blockStore.Height() == 0 {
		if torn = blockStore.LoadSeenCommit(height) == nil; !torn {
			err = stateStore.SetOfflineStateSyncHeight(height)
		}
	}
	if err = errors.Join(err, blockStore.Close(), stateStore.Close()); err != nil || !torn {
		return height, err
	}

	for _, name := range []string{"state.db", "blockstore.db"} {
		if err := os.RemoveAll(filepath.Join(c.DBDir(), name)); err != nil {
			return 0, err
		}
	}

	return 0, nil
}
