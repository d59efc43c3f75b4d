package comet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	cfg "github.com/cometbft/cometbft/config"
)

// ImportHome makes a CometBFT home of an existing one: its keys, its configuration with our security defaults where they concern
// the connection to the application, its genesis, and the state of its signing, without which a validator could sign twice. Its
// chain is not copied: it led to another application's state. from is not changed; it must not run, now or later, with the same
// validator key.
func ImportHome(home, from string) (Identity, error) {
	var none Identity
	if _, err := os.Stat(configPath(home)); err == nil {
		return none, fmt.Errorf("%w: %s is one already", ErrHome, home)
	}
	c, err := loadConfig(from)
	if err != nil {
		return none, err
	}
	if _, err := ReadIdentity(from); err != nil {
		return none, err
	}
	if _, err := ReadGenesis(from); err != nil {
		return none, err
	}
	for _, dir := range []string{cfg.DefaultConfigDir, cfg.DefaultDataDir} {
		if err := os.MkdirAll(filepath.Join(home, dir), 0o700); err != nil {
			return none, fmt.Errorf("%w: %w", ErrHome, err)
		}
	}
	to := cfg.DefaultConfig().SetRoot(home)
	for _, f := range []struct {
		from, to string
		mode     fs.FileMode
	}{
		{c.NodeKeyFile(), to.NodeKeyFile(), 0o600},
		{c.PrivValidatorKeyFile(), to.PrivValidatorKeyFile(), 0o600},
		{c.PrivValidatorStateFile(), to.PrivValidatorStateFile(), 0o600},
		{c.GenesisFile(), to.GenesisFile(), 0o644},
	} {
		if err := copyFile(f.from, f.to, f.mode); err != nil {
			return none, fmt.Errorf("%w: %w", ErrHome, err)
		}
	}
	c.Genesis, c.NodeKey, c.PrivValidatorKey, c.PrivValidatorState = to.Genesis, to.NodeKey, to.PrivValidatorKey, to.PrivValidatorState
	c.DBPath, c.DBBackend = to.DBPath, to.DBBackend
	c.Consensus.DoubleSignCheckHeight = 0
	c.RPC.MaxRequestBatchSize, c.RPC.MaxBodyBytes = feedBatch, feedBody
	c.ProxyApp, c.ABCI = "unix://set-by-coppice", "socket"
	c.SetRoot(home)
	if err := writeConfig(home, c); err != nil {
		return none, fmt.Errorf("%w: %w", ErrHome, err)
	}
	return ReadIdentity(home)
}

func copyFile(from, to string, mode fs.FileMode) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}
