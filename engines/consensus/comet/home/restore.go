package home

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	cfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/crypto/ed25519"
	cmtjson "github.com/cometbft/cometbft/libs/json"
	"github.com/cometbft/cometbft/privval"
	sm "github.com/cometbft/cometbft/state"
	"github.com/cometbft/cometbft/store"
	"github.com/cometbft/cometbft/types"
	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"

	"github.com/coppice-go/coppice/internal/durable"
)

// RestoreOptions say which keys a restored home gets, and what its validator must not sign.
type RestoreOptions struct {
	// Keys is a directory with the node key and the validator key, as SaveKeys makes it. If it also
	// has a signing state, that is taken as the newest one. Empty: the home gets new keys, with
	// which it signs nothing.
	Keys string

	// SignedUpTo is a height above which the validator has signed nothing. It signs nothing up to
	// there. 0: unknown.
	SignedUpTo int64

	// AbandonLater lets the only validator of a chain go on after the last block of the backup,
	// although it may have signed later ones, which are lost.
	AbandonLater bool
}

// Restored is what Restore has made.
type Restored struct {
	Identity
	NewKeys bool
	Signed  int64      // the height of the signing state; 0 for a new key, and for a remote signer
	Alone   *Validator // the only validator of the chain; nil: there are several

	// SigningState is the file, in the directory of the keys, that the home's signing state is a
	// copy of; empty: there was none.
	SigningState string
}

// loadBatch is the size of a batch of pairs that Restore writes to a database.
const loadBatch = 4 << 20

// Restore makes a CometBFT home from the files of a backup: its configuration, with the files of
// the home at their usual places, its genesis, and its databases. No write-ahead log is made,
// because CometBFT begins one: that of before has only messages of the height after the last block.
// progress is called with the bytes of the files that were read. Errors wrap ErrHome,
// ErrChainDamage or ErrSigning; those of the file system wrap none of them.
func Restore(ctx context.Context, home, from string, files []string, o RestoreOptions,
	progress func(n uint64)) (r Restored, err error) {
	for _, dir := range []string{cfg.DefaultConfigDir, cfg.DefaultDataDir} {
		if err := os.MkdirAll(filepath.Join(home, dir), 0o700); err != nil {
			return r, err
		}
	}

	c, err := restoreConfig(home, from)
	if err != nil {
		return r, err
	}
	if r.NewKeys, err = restoreKeys(c, o); err != nil {
		return r, err
	}

	if err := restoreProofs(home, from, files); err != nil {
		return r, err
	}

	for _, name := range files {
		if database, ok := strings.CutSuffix(name, pairsSuffix); ok {
			if err := loadDatabase(ctx, filepath.Join(from, name), databaseDir(c, database), progress); err != nil {
				return r, err
			}
		}
	}
	if err := durable.OS.SyncDir(c.DBDir()); err != nil {
		return r, err
	}

	if r.Identity, err = identityOf(c); err != nil {
		return r, err
	}
	return r, r.restoreSigning(c, o)
}

// restoreProofs writes what the home kept of the epochs of its chain.
func restoreProofs(home, from string, files []string) error {
	for _, name := range files {
		proof, epoch, ok := ParseProof(name)
		if !ok && name != firstGenesisFile {
			continue
		}
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return fmt.Errorf("%w: %w", ErrHome, err)
		}

		if ok {
			err = proof.Write(home, epoch, data)
		} else {
			err = durable.OS.WriteNew(firstGenesisPath(home), data, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// restoreConfig writes the configuration and the genesis.
func restoreConfig(home, from string) (*cfg.Config, error) {
	for _, f := range []struct{ name, to string }{
		{cfg.DefaultConfigFileName, configPath(home)}, {cfg.DefaultGenesisJSONName, GenesisPath(home)},
	} {
		data, err := os.ReadFile(filepath.Join(from, f.name))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrHome, err)
		}
		if err := durable.OS.WriteNew(f.to, data, 0o644); err != nil {
			return nil, err
		}
	}

	c, _, err := readConfig(home)
	if err != nil {
		return nil, err
	}
	usualPlaces(c)
	if err := writeConfig(home, c); err != nil {
		return nil, err
	}

	return LoadConfig(home)
}

// usualPlaces makes a configuration name the files of its home, wherever another home had them.
func usualPlaces(c *cfg.Config) {
	usual := cfg.DefaultConfig()
	c.Genesis, c.NodeKey = usual.Genesis, usual.NodeKey
	c.PrivValidatorKey, c.PrivValidatorState = usual.PrivValidatorKey, usual.PrivValidatorState
	c.DBPath, c.DBBackend = usual.DBPath, "goleveldb"
}

// restoreKeys writes the keys, and reports whether they are new. It writes the signing state of a
// new key, which is empty, and no other.
func restoreKeys(c *cfg.Config, o RestoreOptions) (made bool, err error) {
	remote := c.PrivValidatorListenAddr != ""

	if o.Keys == "" {
		if _, err := makeNodeKey(c); err != nil {
			return true, err
		}
		if remote {
			return true, nil
		}
		pv := privval.NewFilePV(ed25519.GenPrivKey(), c.PrivValidatorKeyFile(), c.PrivValidatorStateFile())
		if err := caught(pv.Save); err != nil {
			return true, fmt.Errorf("validator key: %w", err)
		}
		return true, nil
	}

	given := *c
	given.NodeKey, given.PrivValidatorKey = filepath.Join(o.Keys, NodeKeyFile), filepath.Join(o.Keys, ValidatorKeyFile)
	if err := absolute(&given.NodeKey, &given.PrivValidatorKey); err != nil {
		return false, err
	}
	if err := checkKeys(&given); errors.Is(err, ErrHome) {
		return false, err
	} else if err != nil {
		return false, fmt.Errorf("%w: the keys to restore: %w", ErrHome, err)
	}

	names := []string{NodeKeyFile, ValidatorKeyFile}
	if remote {
		names = names[:1]
	}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(o.Keys, name))
		if err != nil {
			return false, fmt.Errorf("%w: the keys to restore: %w", ErrHome, err)
		}
		if err := durable.OS.WriteNew(filepath.Join(c.RootDir, cfg.DefaultConfigDir, name), data, 0o600); err != nil {
			return false, err
		}
	}

	return false, nil
}

// loadDatabase makes a database from the file of its pairs.
func loadDatabase(ctx context.Context, from, dir string, progress func(uint64)) (err error) {
	f, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrHome, err)
	}
	defer f.Close()

	db, err := leveldb.OpenFile(dir, &opt.Options{ErrorIfExist: true, WriteBuffer: 16 << 20})
	if err != nil {
		return fmt.Errorf("making the database %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	var batch leveldb.Batch
	size := 0
	write := func(sync bool) error {
		err := db.Write(&batch, &opt.WriteOptions{Sync: sync})
		batch.Reset()
		size = 0
		if err != nil {
			return fmt.Errorf("writing the database %s: %w", dir, err)
		}
		return nil
	}

	r := bufio.NewReaderSize(meter{f, progress}, 256<<10)
	if err := readPairs(r, func(key, value []byte) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		batch.Put(key, value)
		if size += len(key) + len(value); size < loadBatch {
			return nil
		}
		return write(false)
	}); errors.Is(err, errPairs) {
		return fmt.Errorf("%w: %s: %w", ErrChainDamage, from, err)
	} else if err != nil {
		return err
	}

	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %s: %w: there is something after its end", ErrChainDamage, from, errPairs)
	}
	return write(true) // a table is synced when it is made, and the rest now
}

// meter calls n with the number of bytes that are read.
type meter struct {
	io.Reader
	n func(uint64)
}

// Read implements io.Reader.
func (m meter) Read(b []byte) (int, error) {
	n, err := m.Reader.Read(b)
	m.n(uint64(n))
	return n, err
}

// restoreSigning writes the signing state of a key that was restored. It never makes one with which
// the validator signs what it may have signed before, unless the operator says that those blocks
// are lost.
func (r *Restored) restoreSigning(c *cfg.Config, o RestoreOptions) error {
	height, set, err := endOfChain(c)
	if err != nil {
		return err
	}
	if len(set) == 1 {
		r.Alone = &Validator{Address: set[0].Address.String(), PubKey: set[0].PubKey.Bytes()}
	}
	if r.NewKeys || c.PrivValidatorListenAddr != "" {
		return nil
	}

	path := filepath.Join(o.Keys, SigningStateFile)
	if err := absolute(&path); err != nil {
		return err
	}
	alone := r.Alone != nil && r.Alone.Address == r.Validator.Address
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrHome, err)
	}
	given := err == nil

	switch {
	case given && (o.SignedUpTo > 0 || o.AbandonLater):
		return fmt.Errorf("%w: %s has a signing state, so that nothing else can say what the validator has signed",
			ErrHome, o.Keys)

	case given:
		r.SigningState = path
		err = checkSigning(path)

	case o.AbandonLater && !alone:
		return fmt.Errorf("%w: validator %s is not the only one of the chain: the others have the blocks after "+
			"height %d, and its votes for them", ErrHome, r.Validator.Address, height)

	case o.AbandonLater:
		data, err = signedUpTo(height)

	case o.SignedUpTo > 0 && o.SignedUpTo < height:
		return fmt.Errorf("%w: --signed-up-to is %d: want at least %d, the height of the last block of the backup, "+
			"which validator %s may have signed", ErrHome, o.SignedUpTo, height, r.Validator.Address)

	case o.SignedUpTo > height && alone:
		return fmt.Errorf("%w: validator %s is the only one of the chain, whose blocks end at height %d in the "+
			"backup, so that it would never sign again if it must sign nothing up to height %d", ErrHome,
			r.Validator.Address, height, o.SignedUpTo)

	case o.SignedUpTo > 0:
		data, err = signedUpTo(o.SignedUpTo)

	default:
		return fmt.Errorf("%w: validator %s may have signed blocks after the last one of the backup, %d, and could "+
			"sign twice: put its newest %s into %s, or say up to which height it can have signed (--signed-up-to), "+
			"or that these blocks are lost (--abandon-later-blocks); see Backup and restore in docs/cometbft.md",
			ErrHome, r.Validator.Address, height, SigningStateFile, o.Keys)
	}

	if err == nil {
		err = durable.OS.WriteNew(c.PrivValidatorStateFile(), data, 0o600)
	}
	if err != nil {
		return err
	}

	s, err := readSigning(c.PrivValidatorStateFile())
	r.Signed = s.Height
	return err
}

// signedUpTo returns the signing state of a validator that signs nothing more up to a height.
func signedUpTo(height int64) ([]byte, error) {
	const lastStep = 3
	return cmtjson.MarshalIndent(privval.FilePVLastSignState{Height: height, Round: math.MaxInt32, Step: lastStep},
		"", "  ")
}

// endOfChain returns the height of the last block, and the validators of the next one.
func endOfChain(c *cfg.Config) (height int64, set []*types.Validator, err error) {
	blocks, states, err := OpenStores(c)
	if err != nil {
		return 0, nil, err
	}
	if states == nil {
		set, err = nextValidators(c)
		return 0, set, err
	}
	defer blocks.Close()
	defer states.Close()

	s, err := sm.NewStore(states, sm.StoreOptions{}).Load()
	if err != nil {
		return 0, nil, damaged(databaseDir(c, stateDatabase), err)
	}
	if s.Validators == nil {
		return 0, nil, nil
	}

	height, set = max(store.NewBlockStore(blocks).Height(), s.LastBlockHeight), s.Validators.Validators
	if height > s.LastBlockHeight { // the state is that before the last block
		set = s.NextValidators.Validators
	}

	return height, set, nil
}
