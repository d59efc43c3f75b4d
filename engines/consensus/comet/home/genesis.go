package home

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/types"
)

// ParseGenesis decodes a genesis of CometBFT. Each validator must have an ed25519 key. CometBFT's
// own function panics if a key is missing or short.
func ParseGenesis(data []byte) (*types.GenesisDoc, error) {
	var raw struct {
		Validators []struct {
			Name   string `json:"name"`
			PubKey *struct {
				Type  string `json:"type"`
				Value []byte `json:"value"`
			} `json:"pub_key"`
		} `json:"validators"`
	}

	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}

	for i, v := range raw.Validators {
		if v.PubKey == nil || v.PubKey.Type != ed25519.PubKeyName || len(v.PubKey.Value) != ed25519.PubKeySize {
			return nil, fmt.Errorf("genesis: validators[%d] (%q): pub_key: want a key of type %s with %d bytes in "+
				"base64", i, v.Name, ed25519.PubKeyName, ed25519.PubKeySize)
		}
	}

	doc, err := types.GenesisDocFromJSON(data)
	if err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}
	return doc, nil
}

// ReadGenesisDoc reads a genesis file of CometBFT. Errors wrap ErrHome, and name the file.
func ReadGenesisDoc(path string) (*types.GenesisDoc, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHome, err)
	}
	doc, err := ParseGenesis(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrHome, path, err)
	}
	return doc, nil
}
