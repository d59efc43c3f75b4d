package home

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sort"

	cfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/evidence"
	sm "github.com/cometbft/cometbft/state"
	"github.com/cometbft/cometbft/store"

	"github.com/coppice-go/coppice/engines/consensus"
)

// What of CometBFT holds a block.
const (
	holdRestart = "restart" // the handshake of a start, and the last commit
	holdLight   = "light clients ([statesync] trust_period of config.toml)"
)

// pruneStep is the number of heights that are removed between two looks at the context.
const pruneStep = 1000

// Prune removes blocks and states of a home in which CometBFT does not run, below the lowest height
// that has to stay, and compacts both databases. It uses CometBFT's own stores, which keep the
// headers, commits and validators that evidence is judged by. Verify has accepted the home.
func Prune(ctx context.Context, home string, o consensus.PruneOptions) (p consensus.Pruned, err error) {
	c, err := LoadConfig(home)
	if err != nil {
		return p, err
	}

	// The stores panic when they cannot decode what they read, or cannot read it.
	defer func() {
		switch e := recover().(type) {
		case nil:
		case error:
			err = damaged(c.DBDir(), e)
		default:
			err = damaged(c.DBDir(), fmt.Errorf("%v", e))
		}
	}()

	blockDir, stateDir := databaseDir(c, blockDatabase), databaseDir(c, stateDatabase)
	if begun, err := began(blockDir, stateDir); err != nil || !begun {
		return p, err
	}

	for _, dir := range []string{blockDir, stateDir} {
		n, err := bytesIn(dir)
		if err != nil {
			return p, err
		}
		p.Sizes = append(p.Sizes, consensus.Size{Name: filepath.Base(dir), Before: n, After: n})
	}

	planned, err := planPrune(c, o, &p)
	if err != nil || o.DryRun || !planned {
		return p, err
	}
	if err := removeBelow(ctx, c, int64(p.Kept), o.Progress); err != nil {
		return p, err
	}

	for i, dir := range []string{blockDir, stateDir} {
		o.Progress("compact "+p.Sizes[i].Name, uint64(i), 2)
		if err := compactDatabase(ctx, dir); err != nil {
			return p, err
		}
		if p.Sizes[i].After, err = bytesIn(dir); err != nil {
			return p, err
		}
	}

	return p, nil
}

// planPrune fills in which blocks there are, and which stay and why. It reports whether there is
// anything to remove.
func planPrune(c *cfg.Config, o consensus.PruneOptions, p *consensus.Pruned) (bool, error) {
	blockDB, stateDB, err := OpenStores(c)
	if err != nil {
		return false, err
	}
	defer blockDB.Close()
	defer stateDB.Close()

	blocks := store.NewBlockStore(blockDB)
	state, err := sm.NewStore(stateDB, sm.StoreOptions{}).Load()
	if err != nil {
		return false, damaged(databaseDir(c, stateDatabase), err)
	}
	left, err := readUnfinished(c)
	if err != nil {
		return false, err
	}

	base, top := blocks.Base(), blocks.Height()
	p.First, p.Last, p.Kept = uint64(base), uint64(top), uint64(base)
	if top == 0 {
		return false, nil
	}

	// A start reads the block after the application's, and the commit of the last one. One more
	// block stays, so that the oldest one that CometBFT needs is not the oldest that it has.
	p.Holds = append(slices.Clone(o.Holds), consensus.Hold{Name: holdRestart,
		First: uint64(max(base, min(int64(o.State.Height), state.LastBlockHeight, top)-1))})
	if c.StateSync.TrustPeriod > 0 && c.RPC.ListenAddress != "" {
		p.Holds = append(p.Holds, consensus.Hold{Name: holdLight, First: uint64(trusted(c, blocks, state))})
	}

	slices.SortStableFunc(p.Holds, func(a, b consensus.Hold) int { return cmp.Compare(a.First, b.First) })
	p.Kept = max(p.Kept, p.Holds[0].First)

	if first := firstEvidence(blocks, state, min(left.from(base), base), int64(p.Kept)); first < int64(p.Kept) {
		p.Evidence = uint64(first)
	}

	return int64(p.Kept) > base || left.From > 0, nil
}

// trusted returns the lowest height whose block is not older than the trust period of a light
// client. The period is counted back from the last block, which is not later than now.
func trusted(c *cfg.Config, blocks *store.BlockStore, state sm.State) int64 {
	base, top := blocks.Base(), blocks.Height()
	oldest := state.LastBlockTime.Add(-c.StateSync.TrustPeriod)

	return base + int64(sort.Search(int(top-base), func(i int) bool {
		meta := blocks.LoadBlockMeta(base + int64(i))
		return meta != nil && !meta.Header.Time.Before(oldest)
	}))
}

// firstEvidence returns the lowest height, from a height on and below kept, whose header is there
// and not older than evidence may be. If there is none, it returns kept.
func firstEvidence(blocks *store.BlockStore, state sm.State, from, kept int64) int64 {
	first := kept
	for h := kept - 1; h >= from; h-- { // times grow with heights
		meta := blocks.LoadBlockMeta(h)
		if meta == nil || evidence.IsEvidenceExpired(state.LastBlockHeight, state.LastBlockTime, h, meta.Header.Time,
			state.ConsensusParams.Evidence) {
			break
		}
		first = h
	}

	return first
}

// removeBelow removes the blocks, and then the states, below a height. The block store moves its
// base before it removes what is below, and so never lacks a block that it says it has. What a
// process that died meanwhile has left of the states is removed by the next call.
func removeBelow(ctx context.Context, c *cfg.Config, kept int64, progress func(step string, done, total uint64)) error {
	blockDB, err := openToWrite(databaseDir(c, blockDatabase))
	if err != nil {
		return err
	}
	defer blockDB.Close()
	stateDB, err := openToWrite(databaseDir(c, stateDatabase))
	if err != nil {
		return err
	}
	defer stateDB.Close()

	blocks := store.NewBlockStore(blockDB)
	states := sm.NewStore(stateDB, sm.StoreOptions{DiscardABCIResponses: c.Storage.DiscardABCIResponses})
	state, err := states.Load()
	if err != nil {
		return damaged(databaseDir(c, stateDatabase), err)
	}

	left, err := readUnfinished(c)
	if err != nil {
		return err
	}
	left.From = left.from(blocks.Base())
	if err := left.write(c); err != nil {
		return err
	}

	if err := pruneBlocks(ctx, blocks, state, kept, progress); err != nil {
		return err
	}

	// All at once: the state store must know the validators at the height up to which it removes,
	// and CometBFT may have removed those of heights in between.
	if base := blocks.Base(); left.From < base {
		progress("states", 0, 0)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := states.PruneStates(left.From, base, firstEvidence(blocks, state, left.From, base)); err != nil {
			return fmt.Errorf("pruning %s%s: %w", stateDatabase, databaseSuffix, err)
		}
	}

	return removeUnfinished(c)
}

// pruneBlocks removes the blocks below a height.
func pruneBlocks(ctx context.Context, blocks *store.BlockStore, state sm.State, kept int64,
	progress func(step string, done, total uint64)) error {
	first := blocks.Base()
	for at := first; at < kept; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}

		at = min(at+pruneStep, kept)
		if _, _, err := blocks.PruneBlocks(at, state); err != nil {
			return fmt.Errorf("pruning %s%s: %w", blockDatabase, databaseSuffix, err)
		}
		progress("blocks", uint64(at-first), uint64(kept-first))
	}

	return nil
}
