package home

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/node/exit"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// ReadGenesis reads the genesis of a home. Errors are exit.ErrConfig.
func ReadGenesis(home string) (chain.Genesis, error) {
	g, _, err := ReadGenesisFile(filepath.Join(home, chain.GenesisFile))
	return g, err
}

// ReadGenesisFile reads a genesis file. It also returns the record that starts the chain. Errors
// are exit.ErrConfig.
func ReadGenesisFile(path string) (g chain.Genesis, rec *logv1.ChainStarted, err error) {
	data, err := os.ReadFile(path)
	if err == nil {
		g, err = chain.ParseGenesis(path, data)
	}
	if err == nil {
		rec, err = g.ChainStarted()
	}
	if err != nil {
		return g, nil, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	return g, rec, nil
}
