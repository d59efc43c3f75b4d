package home

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	cfg "github.com/cometbft/cometbft/config"

	"github.com/coppice-go/coppice/internal/durable"
	"github.com/coppice-go/coppice/internal/flock"
)

// Import makes a CometBFT home from an existing one. It copies the keys, the configuration (with
// our settings for the connection to the application), the genesis, and the signing state, without
// which a validator could sign twice. It does not copy the chain, because that chain led to the
// state of another application. Of a home whose chain was reset it copies what proves the resets.
// Import does not change from, but from must never run again with the same validator key. Errors
// wrap ErrHome; after an error, Import has left no home.
func Import(home, from string) (Identity, error) {
	var none Identity
	if _, err := os.Stat(configPath(home)); err == nil {
		return none, fmt.Errorf("%w: %s exists already", ErrHome, home)
	}

	c, _, err := readConfig(from)
	if err != nil {
		return none, err
	}
	if err := notRunning(c); err != nil {
		return none, err
	}
	id, err := identityOf(c)
	if err != nil {
		return none, err
	}
	g, err := ReadGenesis(from)
	if err != nil {
		return none, err
	}
	if err := canSign(c, g, id.Validator); err != nil {
		return none, err
	}

	// A chain that was reset is begun with the genesis of epoch 0, and followed by its
	// certificates.
	genesis := c.GenesisFile()
	if path := firstGenesisPath(from); exists(path) {
		genesis = path
	}
	proofs, err := readProofs(from)
	if err != nil {
		return none, err
	}

	to := cfg.DefaultConfig().SetRoot(home)
	files := []struct {
		from, to string
		mode     os.FileMode
		data     []byte
	}{
		{from: c.NodeKeyFile(), to: to.NodeKeyFile(), mode: 0o600},
		{from: c.PrivValidatorKeyFile(), to: to.PrivValidatorKeyFile(), mode: 0o600},
		{from: c.PrivValidatorStateFile(), to: to.PrivValidatorStateFile(), mode: 0o600},
		{from: genesis, to: to.GenesisFile(), mode: 0o644},
	}
	for i, f := range files { // read all files before anything is made
		if files[i].data, err = os.ReadFile(f.from); err != nil {
			return none, fmt.Errorf("%w: %w", ErrHome, err)
		}
	}

	for _, dir := range []string{cfg.DefaultConfigDir, cfg.DefaultDataDir} {
		if err := os.MkdirAll(filepath.Join(home, dir), 0o700); err != nil {
			return none, fmt.Errorf("%w: %w", ErrHome, err)
		}
	}

	for _, f := range files {
		if err := durable.OS.WriteNew(f.to, f.data, f.mode); err != nil {
			return none, fmt.Errorf("%w: %w", ErrHome, err)
		}
	}

	for _, p := range proofs {
		if err := p.kind.Write(home, p.epoch, p.data); err != nil {
			return none, err
		}
	}

	c.Genesis, c.NodeKey = to.Genesis, to.NodeKey
	c.PrivValidatorKey, c.PrivValidatorState = to.PrivValidatorKey, to.PrivValidatorState
	c.DBPath, c.DBBackend = to.DBPath, to.DBBackend
	c.Consensus.DoubleSignCheckHeight = 0
	boundRPC(c)
	c.ProxyApp, c.ABCI = "unix://set-by-coppice", "socket"
	c.SetRoot(home)
	if err := writeConfig(home, c); err != nil {
		return none, fmt.Errorf("%w: %w", ErrHome, err)
	}

	return ReadIdentity(home)
}

// notRunning returns an error if a running CometBFT has the home open. That CometBFT would continue
// to sign, and the copied signing state would be old.
func notRunning(c *cfg.Config) error {
	f, err := os.Open(filepath.Join(c.DBDir(), "blockstore.db", "LOCK")) // goleveldb's; other stores have none
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrHome, err)
	}
	defer f.Close()

	if flock.IsLocked(f) {
		return fmt.Errorf("%w: %s is in use: stop its CometBFT first, and never start it again with this validator key",
			ErrHome, c.RootDir)
	}

	return nil
}

// canSign returns an error for a validator that would have to sign heights again that it has
// signed. That is the only validator of a chain, because Import does not copy the blocks. A
// validator among others first fetches the blocks from them.
func canSign(c *cfg.Config, g Genesis, own Validator) error {
	data, err := os.ReadFile(c.PrivValidatorStateFile())
	if err != nil {
		return fmt.Errorf("%w: signing state: %w", ErrHome, err)
	}

	var signed struct {
		Height int64 `json:"height,string"`
	}
	if err := json.Unmarshal(data, &signed); err != nil {
		return fmt.Errorf("%w: signing state: %s: %w", ErrHome, c.PrivValidatorStateFile(), err)
	}
	if len(g.Validators) != 1 || g.Validators[0].Address != own.Address || signed.Height < int64(g.InitialHeight) {
		return nil
	}
	return fmt.Errorf("%w: its validator is the only one of chain %s and has signed up to height %d, and blocks are "+
		"not imported: it would refuse to sign these heights again; "+
		"give %s a new chain_id and initial_height %d (or more) to go on as a new chain", ErrHome, g.ChainID,
		signed.Height, c.GenesisFile(), signed.Height+1)
}
