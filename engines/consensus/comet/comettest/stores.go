package comettest

import (
	"errors"

	cfg "github.com/cometbft/cometbft/config"
	sm "github.com/cometbft/cometbft/state"
	"github.com/cometbft/cometbft/store"
)

// Stores opens the two databases of a CometBFT home, calls use, and closes them.
func Stores(c *cfg.Config, use func(sm.Store, *store.BlockStore)) error {
	states, err := cfg.DefaultDBProvider(&cfg.DBContext{ID: "state", Config: c})
	if err != nil {
		return err
	}
	blocks, err := cfg.DefaultDBProvider(&cfg.DBContext{ID: "blockstore", Config: c})
	if err != nil {
		return errors.Join(err, states.Close())
	}

	s, b := sm.NewStore(states, sm.StoreOptions{}), store.NewBlockStore(blocks)
	use(s, b)
	return errors.Join(s.Close(), b.Close())
}
