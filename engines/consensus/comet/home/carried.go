package home

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/coppice-go/coppice/engines/chain"
)

// Dir returns the path of the CometBFT home in the home of a node. It may not exist.
func Dir(home string) string { return filepath.Join(home, "comet") }

// CarriesState reports whether the app_state of a genesis is more than an empty value.
func CarriesState(appState []byte) bool {
	switch string(bytes.TrimSpace(appState)) {
	case "", "{}", "null", `""`:
		return false
	}
	return true
}

// Carried returns our genesis for a CometBFT chain: the one that CometBFT's genesis carries,
// whatever the epoch, or otherwise its chain id and block size with the default limits. An empty
// chainID stands for any. from names the genesis in errors.
func Carried(chainID string, theirs Genesis, from string) (chain.Genesis, error) {
	bad := func(format string, args ...any) (chain.Genesis, error) {
		return chain.Genesis{}, fmt.Errorf("the genesis of %s: %w", from, fmt.Errorf(format, args...))
	}

	other := func() (chain.Genesis, error) { return bad("it is of chain %q, want %q", theirs.ChainID, chainID) }
	if _, ok := chain.EpochOf(theirs.ChainID, chainID); chainID != "" && !ok {
		return other()
	}

	g := chain.NewGenesis(theirs.ChainID, theirs.Time)
	g.GenesisTime, g.InitialHeight = theirs.Time, theirs.InitialHeight

	if theirs.MaxBlockBytes > chain.MaxTxBytes {
		return bad("its blocks have %d bytes of transactions, want at most %d: lower consensus_params.block.max_bytes",
			theirs.MaxBlockBytes, chain.MaxTxBytes)
	}

	g.Limits.MaxBlockBytes = theirs.MaxBlockBytes
	g.Limits.MaxTxBytes = min(g.Limits.MaxTxBytes, theirs.MaxBlockBytes)
	if !CarriesState(theirs.AppState) {
		if chainID != "" && chainID != theirs.ChainID {
			return other()
		}
		return g, nil
	}

	var carried chain.Genesis
	d := json.NewDecoder(bytes.NewReader(theirs.AppState))
	d.DisallowUnknownFields()
	if err := d.Decode(&carried); err != nil {
		return bad("app_state is another application's: %w", err)
	}
	if chainID != "" && carried.ChainID != chainID {
		return other()
	}
	if epoch, ok := chain.EpochOf(theirs.ChainID, carried.ChainID); !ok || epoch > 0 && carried.Resets == nil {
		return bad("app_state is of chain %q, and the rest of %q", carried.ChainID, theirs.ChainID)
	}

	return carried, nil
}

// Carry writes the genesis of a CometBFT home whose chain has not begun. It is theirs, completed
// from ours, and carries ours in its app_state, so that a node with other limits belongs to another
// chain.
func Carry(home string, ours chain.Genesis, theirs Genesis) error {
	whole, err := carrying(ours, theirs)
	if err != nil {
		return err
	}
	return WriteGenesis(home, whole)
}

// carrying returns theirs, completed from ours and carrying it.
func carrying(ours chain.Genesis, theirs Genesis) (_ Genesis, err error) {
	theirs.ChainID, theirs.Time = ours.ChainID, ours.GenesisTime
	theirs.InitialHeight, theirs.MaxBlockBytes = ours.InitialHeight, ours.Limits.MaxBlockBytes

	theirs.AppState, err = ours.AppState()

	return theirs, err
}
