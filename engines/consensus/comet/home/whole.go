package home

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// whole returns an error if a file of a CometBFT home does not exist. The error says how much of
// the home is gone, and what to do. It wraps ErrHome.
func whole(home, path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil // the caller meets any other error
	}

	const newHome = "make a new home that joins the chain, 'coppice init --consensus cometbft --from RPC,RPC', and " +
		"have its key made a validator"

	switch {
	case !exists(home):
		return fmt.Errorf("%w: %s does not exist: this node's keys, signing state and blocks are gone; put the "+
			"directory back as it was last (an older copy of its signing state can sign twice), or %s", ErrHome, home,
			newHome)

	case !exists(filepath.Join(home, "config")):
		return fmt.Errorf("%w: %s has no directory config: this node's keys and configuration are gone; put it back "+
			"from a copy, or %s", ErrHome, home, newHome)

	default:
		return fmt.Errorf("%w: %s does not exist: put it back from a copy of the home; %s", ErrHome, path,
			cureOf(filepath.Base(path)))
	}
}

// cureOf says what to do if there is no copy of a file.
func cureOf(name string) string {
	switch name {
	case "genesis.json":
		return "every node of the chain has the same file"
	case "node_key.json":
		return "without a copy, 'coppice keys generate node' makes another one, and the node gets another id, which " +
			"its peers must know"
	case "config.toml":
		return "without a copy, take that of a new home ('coppice init') and set laddr and persistent_peers in it"
	}
	return "without a copy, make a new home"
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
