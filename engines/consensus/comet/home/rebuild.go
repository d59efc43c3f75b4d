package home

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	cfg "github.com/cometbft/cometbft/config"
	cmtstate "github.com/cometbft/cometbft/proto/tendermint/state"
	sm "github.com/cometbft/cometbft/state"
	"github.com/cometbft/cometbft/store"
	"github.com/cometbft/cometbft/types"
	"github.com/cometbft/cometbft/version"

	"github.com/coppice-go/coppice/internal/durable"
)

// Rebuilding is an order to rebuild CometBFT's data from what its peers have. It stands in the home
// until it is carried out, by the next start of CometBFT's process. Genesis, keys, signing state
// and the home's own state stay.
type Rebuilding struct {
	ChainID string   `json:"chain_id"`       // of the epoch for which it was ordered
	By      string   `json:"by"`             // who ordered it
	From    []string `json:"from,omitempty"` // RPC addresses of peers, besides those of the configuration

	// Next and Proof are set before anything is removed: the height of the block after the home's
	// own state, and what the peers have of the blocks around it, which was checked. The driver
	// encodes it.
	Next  uint64 `json:"next,omitempty"`
	Proof []byte `json:"proof,omitempty"`
}

// Begun reports whether some of the data may be gone already.
func (r *Rebuilding) Begun() bool { return len(r.Proof) > 0 }

func rebuildingPath(home string) string { return filepath.Join(home, "rebuild.json") }

// Order writes an order durably, in place of an earlier one.
func (r *Rebuilding) Order(home string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.OS.Replace(rebuildingPath(home), append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("%w: %w", ErrHome, err)
	}
	return nil
}

// OrderRebuild writes an order into a home in which no node runs. from are the RPC addresses of
// peers. If an earlier order is there already, whose work has begun, that one stays, and gets the
// addresses. At least one peer must be known.
func OrderRebuild(home, by string, from []string) error {
	c, err := LoadConfig(home)
	if err != nil {
		return err
	}
	for _, a := range from {
		if err := checkHostPort(hostPort(a)); err != nil {
			return fmt.Errorf("%w: address of a peer: %w", ErrHome, err)
		}
	}
	if len(from) == 0 && len(c.StateSync.RPCServers) == 0 {
		return fmt.Errorf("%w: no peer is known that has the blocks: want the RPC addresses of peers (--from), or "+
			"rpc_servers in [statesync] of %s", ErrHome, configPath(home))
	}
	g, err := ReadGenesis(home)
	if err != nil {
		return err
	}

	r := &Rebuilding{ChainID: g.ChainID, By: by}
	if old, err := ReadRebuilding(home); err == nil && old != nil && old.Begun() && old.ChainID == g.ChainID {
		r = old
	}
	r.From = from

	return r.Order(home)
}

// ReadRebuilding returns the order that stands in a home, or nil if there is none.
func ReadRebuilding(home string) (*Rebuilding, error) {
	data, err := os.ReadFile(rebuildingPath(home))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}

	r := new(Rebuilding)
	if err == nil {
		err = json.Unmarshal(data, r)
	}
	if err == nil && (r.ChainID == "" || r.Begun() != (r.Next > 0)) {
		err = errors.New("want a chain_id, and a proof with its height, or neither")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w: the file orders that CometBFT's data is rebuilt; 'coppice reset hard' writes "+
			"it anew", ErrHome, withPath(rebuildingPath(home), err))
	}

	return r, nil
}

// EndRebuilding removes the order.
func EndRebuilding(home string) error {
	if err := durable.OS.Remove(rebuildingPath(home)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrHome, err)
	}
	return nil
}

// Base is what CometBFT's data begins with after a rebuild: the last block of the home's own state,
// the block after it, and the validators after that one. Its caller has verified all of them.
type Base struct {
	Last  *types.LightBlock // nil: the chain has no block yet
	Next  *types.LightBlock
	After *types.ValidatorSet
}

// Rebuild removes the address book and all that CometBFT keeps of its chain, entry by entry, and
// begins its databases anew at b. CometBFT fetches the blocks after b from its peers. Keys, signing
// state, genesis and configuration stay. Rebuild may be repeated after a crash at any point. No
// CometBFT may run.
func Rebuild(home string, b Base) error {
	c, err := LoadConfig(home)
	if err != nil {
		return err
	}
	doc, err := ReadGenesisDoc(c.GenesisFile())
	if err != nil {
		return err
	}

	var state sm.State
	if b.Last != nil {
		if state, err = b.state(doc); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrHome, c.GenesisFile(), err)
		}
	}

	if err := removeChain(c); err != nil || b.Last == nil {
		return err
	}
	if err := writeBase(c, state, b.Last.Commit); err != nil {
		return fmt.Errorf("%w: %w", ErrHome, err)
	}

	return nil
}

// state returns CometBFT's state after the last block. All of it stands in the two headers and in
// the sets of validators, except for the consensus parameters: ours stay those of the genesis.
func (b Base) state(doc *types.GenesisDoc) (s sm.State, err error) {
	if doc.ChainID != b.Next.ChainID {
		return s, fmt.Errorf("it is of chain %s, the blocks are of %s", doc.ChainID, b.Next.ChainID)
	}
	if hash := doc.ConsensusParams.Hash(); !bytes.Equal(hash, b.Next.ConsensusHash) {
		return s, fmt.Errorf("its consensus parameters have hash %X, those of block %d have %X", hash, b.Next.Height,
			b.Next.ConsensusHash)
	}

	return sm.State{
		Version: cmtstate.Version{Consensus: b.Next.Version, Software: version.TMCoreSemVer},
		ChainID: doc.ChainID, InitialHeight: doc.InitialHeight,
		LastBlockHeight: b.Last.Height, LastBlockID: b.Last.Commit.BlockID, LastBlockTime: b.Last.Time,
		Validators: b.Next.ValidatorSet, LastValidators: b.Last.ValidatorSet, NextValidators: b.After,
		LastHeightValidatorsChanged: b.Next.Height + 1,
		ConsensusParams:             *doc.ConsensusParams, LastHeightConsensusParamsChanged: b.Next.Height,
		LastResultsHash: b.Next.LastResultsHash, AppHash: b.Next.AppHash,
	}, nil
}

// writeBase makes both databases, as CometBFT's node.BootstrapState does.
func writeBase(c *cfg.Config, state sm.State, seen *types.Commit) (err error) {
	blockDB, err := cfg.DefaultDBProvider(&cfg.DBContext{ID: blockDatabase, Config: c})
	if err != nil {
		return err
	}
	blocks := store.NewBlockStore(blockDB)
	err = errors.Join(blocks.SaveSeenCommit(state.LastBlockHeight, seen), blocks.Close())
	if err != nil {
		return err
	}

	stateDB, err := cfg.DefaultDBProvider(&cfg.DBContext{ID: stateDatabase, Config: c})
	if err != nil {
		return err
	}
	states := sm.NewStore(stateDB, sm.StoreOptions{})
	panicked := caught(func() { // Bootstrap panics if it cannot write
		if err = states.Bootstrap(state); err == nil {
			err = states.SetOfflineStateSyncHeight(state.LastBlockHeight)
		}
	})
	if err = errors.Join(panicked, err, states.Close()); err != nil {
		return err
	}

	for _, name := range []string{blockDatabase, stateDatabase} {
		if err := syncFiles(databaseDir(c, name)); err != nil {
			return err
		}
	}

	return durable.OS.SyncDir(c.DBDir())
}

// syncFiles makes the files of a directory durable, and their names.
func syncFiles(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}

	for _, e := range entries {
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}

	return durable.OS.SyncDir(dir)
}
