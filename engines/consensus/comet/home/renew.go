package home

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	cfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/types"

	"github.com/coppice-go/coppice/internal/durable"
	"github.com/coppice-go/coppice/internal/flock"
)

// Epoch is what the genesis of an epoch after a reset says. The rest of it is as in the genesis of
// epoch 0.
type Epoch struct {
	ChainID       string
	Time          time.Time
	InitialHeight uint64
	AppHash       []byte
	Validators    []Validator
}

// errRunning is the error for a home whose data is still in use by a CometBFT.
var errRunning = errors.New("a CometBFT still runs on it")

// Renew makes a home that of an epoch that has not begun. It removes the address book and the chain
// of the epoch before, entry by entry, and then replaces the genesis, whole. It keeps keys, signing
// state and configuration, except that the epoch is not begun by state sync, which would look for
// it in the chain before. Renew may be repeated after a crash at any point. No CometBFT may run.
func Renew(home string, e Epoch) error {
	c, err := LoadConfig(home)
	if err != nil {
		return err
	}
	if err := keepFirstGenesis(home); err != nil {
		return fmt.Errorf("%w: %w", ErrHome, err)
	}
	doc, err := ReadGenesisDoc(firstGenesisPath(home))
	if err != nil {
		return err
	}

	if err := removeChain(c); err != nil {
		return err
	}

	if c.StateSync.Enable {
		c.StateSync.Enable = false
		if err := writeConfig(home, c); err != nil {
			return err
		}
	}

	doc.ChainID, doc.GenesisTime, doc.InitialHeight, doc.AppHash = e.ChainID, e.Time, int64(e.InitialHeight), e.AppHash
	names := make(map[string]string, len(doc.Validators))
	for _, v := range doc.Validators {
		names[string(v.PubKey.Bytes())] = v.Name
	}

	doc.Validators = nil
	for _, v := range e.Validators {
		key := ed25519.PubKey(v.PubKey)
		doc.Validators = append(doc.Validators, types.GenesisValidator{Address: key.Address(), PubKey: key,
			Power: v.Power, Name: names[string(v.PubKey)]})
	}
	if err := doc.ValidateAndComplete(); err != nil {
		return fmt.Errorf("%w: genesis of %s: %w", ErrHome, e.ChainID, err)
	}

	return saveGenesis(home, doc)
}

// firstGenesisFile is the name of the genesis of epoch 0.
const firstGenesisFile = "genesis-0.json"

// firstGenesisPath returns the path of the genesis of epoch 0 in a home whose chain was reset.
func firstGenesisPath(home string) string {
	return filepath.Join(home, cfg.DefaultConfigDir, firstGenesisFile)
}

// keepFirstGenesis copies the genesis of epoch 0 before the first reset replaces it.
func keepFirstGenesis(home string) error {
	path := firstGenesisPath(home)
	if exists(path) {
		return nil
	}
	data, err := os.ReadFile(GenesisPath(home))
	if err != nil {
		return err
	}
	return durable.OS.Replace(path, data, 0o644)
}

// ReadFirstGenesis reads the genesis of epoch 0 of a home, whatever the epoch of its chain.
func ReadFirstGenesis(home string) (Genesis, error) {
	path := firstGenesisPath(home)
	if !exists(path) {
		return ReadGenesis(home)
	}
	doc, err := ReadGenesisDoc(path)
	if err != nil {
		return Genesis{}, err
	}
	return genesisOf(doc)
}

// removeChain removes the address book and what CometBFT keeps about its chain. The signing state
// stays where it is.
func removeChain(c *cfg.Config) error {
	if err := noneRuns(c); err != nil {
		return err
	}

	gone := []string{c.P2P.AddrBookFile(), filepath.Dir(c.Consensus.WalFile())}
	dirs, err := databases(c)
	if err != nil {
		return err
	}

	for _, path := range append(gone, dirs...) {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("%w: %w", ErrHome, err)
		}
		if err := durable.OS.SyncDir(filepath.Dir(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %w", ErrHome, err)
		}
	}

	return nil
}

// noneRuns returns an error if a process has a database of CometBFT open.
func noneRuns(c *cfg.Config) error {
	dirs, err := databases(c)
	if err != nil {
		return err
	}

	for _, dir := range dirs {
		f, err := flock.TryLockExisting(filepath.Join(dir, "LOCK"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if errors.Is(err, flock.ErrLocked) {
			return fmt.Errorf("%w: the database %s: %w", ErrHome, dir, errRunning)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrHome, err)
		}
		if err := f.Close(); err != nil {
			return fmt.Errorf("%w: %w", ErrHome, err)
		}
	}

	return nil
}
