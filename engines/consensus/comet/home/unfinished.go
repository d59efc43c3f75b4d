package home

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	cfg "github.com/cometbft/cometbft/config"

	"github.com/coppice-go/coppice/internal/durable"
)

// unfinishedFile is in the directory of CometBFT's databases from before Prune removes the first
// block until it has removed the last state. A start does not read it.
const unfinishedFile = "pruning.json"

// unfinished is the content of unfinishedFile; the zero value stands for no file.
type unfinished struct {
	// From is the base of the blocks when the pruning began. States from From on may be left,
	// although the blocks are gone.
	From int64 `json:"from"`
}

// from returns the height at which pruning goes on, if the blocks begin at base.
func (u unfinished) from(base int64) int64 {
	if u.From > 0 {
		return min(u.From, base)
	}
	return base
}

func unfinishedPath(c *cfg.Config) string { return filepath.Join(c.DBDir(), unfinishedFile) }

// readUnfinished returns what a pruning that was cut short has left.
func readUnfinished(c *cfg.Config) (u unfinished, err error) {
	data, err := os.ReadFile(unfinishedPath(c))
	if errors.Is(err, fs.ErrNotExist) {
		return u, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &u)
	}
	if err == nil && u.From <= 0 {
		err = fmt.Errorf("from is %d, want a height from 1", u.From)
	}
	if err != nil {
		return u, fmt.Errorf("%w: %w: the file says where an earlier pruning began; remove it, and what that pruning "+
			"left in %s%s stays", ErrHome, withPath(unfinishedPath(c), err), stateDatabase, databaseSuffix)
	}

	return u, nil
}

// write writes the file durably.
func (u unfinished) write(c *cfg.Config) error {
	data, err := json.Marshal(u)
	if err != nil {
		return err
	}
	return durable.OS.Replace(unfinishedPath(c), append(data, '\n'), 0o600)
}

// removeUnfinished removes the file.
func removeUnfinished(c *cfg.Config) error { return durable.OS.Remove(unfinishedPath(c)) }
