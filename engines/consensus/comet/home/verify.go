package home

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	dbm "github.com/cometbft/cometbft-db"
	cfg "github.com/cometbft/cometbft/config"
	sm "github.com/cometbft/cometbft/state"
	"github.com/cometbft/cometbft/store"
	"github.com/syndtr/goleveldb/leveldb/opt"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/internal/recordlog"
)

// Verify reads CometBFT's home while no node runs: its configuration, its keys, and every byte of
// its databases. It compares their chain with the state to which the home's own log leads, as
// CometBFT does when it starts. It changes nothing. The write-ahead log is not read, because
// CometBFT mends it itself. Errors wrap ErrHome, ErrGenesis, ErrSigning, ErrChainData or
// ErrChainDamage, and name the file.
func Verify(ctx context.Context, home string, s chain.State) error {
	c, err := LoadConfig(home)
	if err != nil {
		return err
	}
	if err := Preflight(c); err != nil {
		return err
	}
	g, err := ReadGenesis(home)
	if err != nil {
		return err
	}
	if before := chain.EpochID(chain.NameOf(s.ChainID, s.Period), s.Period-1); s.Period > 0 && s.Height == 0 &&
		g.ChainID == before {
		return nil // a reset was cut short, and the next start makes it
	}
	if s.Started() && g.ChainID != s.ChainID {
		return fmt.Errorf("%w: %s is of chain %q, the home's log of %q", ErrGenesis, GenesisPath(home), g.ChainID,
			s.ChainID)
	}
	if !c.StateSync.Enable { // otherwise a start may fetch the state again
		if err := CheckChainData(c, s.Height); err != nil {
			return err
		}
	}

	dirs, err := databases(c)
	if err != nil {
		return err
	}

	for _, dir := range dirs {
		if err := verifyDatabase(ctx, dir); err != nil {
			return err
		}
	}

	return verifyChain(ctx, c, s)
}

// verifyDatabase reads every byte of a database that CometBFT would read.
func verifyDatabase(ctx context.Context, dir string) error {
	if gone, err := missing(dir); err != nil || gone {
		return err // the next start makes it
	}
	if err := checkJournals(dir, recordlog.Check); err != nil {
		return err
	}

	db, err := openReadOnly(dir)
	if err != nil {
		return damaged(dir, err)
	}
	defer db.Close()

	it := db.DB().NewIterator(nil, &opt.ReadOptions{Strict: opt.StrictAll})
	defer it.Release()

	for n := 0; it.Next(); n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}

	if err := it.Error(); err != nil {
		return damaged(dir, err)
	}
	return nil
}

// checkJournals applies check to the journals and the manifest of a database. goleveldb itself
// skips what is damaged in them, and so loses what was written.
func checkJournals(dir string, check func(data []byte) error) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return damaged(dir, err)
	}
	current, err := checkCurrent(dir)
	if err != nil {
		return damaged(dir, err)
	}

	for _, e := range entries {
		if name := e.Name(); name != current && filepath.Ext(name) != ".log" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err == nil {
			err = check(data)
		}
		if err != nil {
			return damaged(dir, fmt.Errorf("%s: %w", e.Name(), err))
		}
	}

	return nil
}

// openReadOnly opens a database and changes nothing in it.
func openReadOnly(dir string) (*dbm.GoLevelDB, error) {
	return dbm.NewGoLevelDBWithOpts(strings.TrimSuffix(filepath.Base(dir), databaseSuffix), filepath.Dir(dir),
		&opt.Options{ReadOnly: true, ErrorIfMissing: true})
}

// OpenStores opens the databases of blocks and of states, and changes nothing in them. The
// databases are nil if CometBFT was never started in the home.
func OpenStores(c *cfg.Config) (blocks, states dbm.DB, err error) {
	blockDir, stateDir := databaseDir(c, blockDatabase), databaseDir(c, stateDatabase)
	if begun, err := began(blockDir, stateDir); err != nil || !begun {
		return nil, nil, err
	}

	b, err := openReadOnly(blockDir)
	if err != nil {
		return nil, nil, damaged(blockDir, err)
	}
	s, err := openReadOnly(stateDir)
	if err != nil {
		return nil, nil, errors.Join(damaged(stateDir, err), b.Close())
	}

	return b, s, nil
}

// verifyChain compares the blocks and the state of CometBFT with each other and with the state of
// the home, as CometBFT's handshake does.
func verifyChain(ctx context.Context, c *cfg.Config, s chain.State) (err error) {
	// The stores panic when they cannot decode what they read.
	defer func() {
		switch p := recover().(type) {
		case nil:
		case error:
			err = damaged(c.DBDir(), p)
		default:
			err = damaged(c.DBDir(), fmt.Errorf("%v", p))
		}
	}()

	blockDB, stateDB, err := OpenStores(c)
	if err != nil || stateDB == nil {
		return err
	}
	defer blockDB.Close()
	defer stateDB.Close()

	blocks := store.NewBlockStore(blockDB)
	theirs, err := sm.NewStore(stateDB, sm.StoreOptions{}).Load()
	if err != nil {
		return damaged(databaseDir(c, stateDatabase), err)
	}

	base, top, state, app := blocks.Base(), blocks.Height(), theirs.LastBlockHeight, int64(s.Height)
	if top > 0 { // nothing stands at the height before the first block
		state, app = max(state, theirs.InitialHeight-1), max(app, theirs.InitialHeight-1)
	}
	bad := func(format string, args ...any) error { return damaged(c.DBDir(), fmt.Errorf(format, args...)) }

	switch {
	case top == 0 && state == app: // nothing yet, or only a state from a snapshot
		return nil
	case top == 0 && state == 0 && c.StateSync.Enable:
		return nil // a state sync was cut short, and is done again
	case app > top:
		return bad("its blocks end at height %d, the home's own data is at %d", top, app)
	case app < base-1:
		return bad("its blocks begin at height %d, the home's own data is at %d", base, app)
	case state > top || state < top-1:
		return bad("its state is at height %d, its blocks end at %d", state, top)
	case state == app && s.Height > 0 && !bytes.Equal(theirs.AppHash, s.AppHash):
		return bad("at height %d its state has app hash %x, the home's own data has %x", state, theirs.AppHash,
			s.AppHash)
	}

	return verifyBlocks(ctx, c, blocks, max(base, 1), top)
}

// verifyBlocks returns an error unless every block is there, with the commit that proves it: peers
// fetch them, and light clients ask for them.
func verifyBlocks(ctx context.Context, c *cfg.Config, blocks *store.BlockStore, base, top int64) error {
	for h := base; h <= top; h++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}

		what := ""
		switch {
		case blocks.LoadBlock(h) == nil:
			what = "block"
		case h < top && blocks.LoadBlockCommit(h) == nil, h == top && blocks.LoadSeenCommit(h) == nil:
			what = "the commit of block"
		}
		if what != "" {
			return damaged(databaseDir(c, blockDatabase),
				fmt.Errorf("%s %d is missing, of blocks %d to %d", what, h, base, top))
		}
	}

	return nil
}

// began reports whether CometBFT was ever started: one of the databases exists.
func began(dirs ...string) (bool, error) {
	for _, dir := range dirs {
		if gone, err := missing(dir); err != nil || !gone {
			return true, err
		}
	}
	return false, nil
}
