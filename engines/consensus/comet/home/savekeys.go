package home

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/coppice-go/coppice/internal/durable"
)

// NodeKeyFile is the name of the file of a node key, as in a home.
const NodeKeyFile = "node_key.json"

// SaveKeys copies the node key and the validator key of a home into a directory that has none, each
// readable by its owner alone. If a remote signer has the validator key, only the node key is
// copied. SaveKeys never copies the signing state: it is old as soon as the validator signs again,
// and with an old one it could sign twice.
func SaveKeys(home, dir string) (err error) {
	c, err := LoadConfig(home)
	if err != nil {
		return err
	}
	if err := checkKeys(c); err != nil {
		return fmt.Errorf("%w: %w", ErrHome, err)
	}

	keys := []struct{ from, name string }{{c.NodeKeyFile(), NodeKeyFile}}
	if c.PrivValidatorListenAddr == "" {
		keys = append(keys, struct{ from, name string }{c.PrivValidatorKeyFile(), ValidatorKeyFile})
	}

	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("%w: %w", ErrHome, err)
	}

	var made []string
	defer func() {
		if err == nil {
			return
		}
		for _, path := range made {
			err = errors.Join(err, os.Remove(path))
		}
	}()

	for _, k := range keys {
		data, err := os.ReadFile(k.from)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrHome, err)
		}
		path := filepath.Join(dir, k.name)
		if err := durable.OS.WriteNew(path, data, 0o600); err != nil {
			return fmt.Errorf("%w: %w", ErrHome, err)
		}
		made = append(made, path)
	}

	return durable.OS.SyncDir(dir)
}
