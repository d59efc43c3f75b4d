package home

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/internal/durable"
	"github.com/coppice-go/coppice/node/exit"
)

// AgentKeyFile is the name of the file with the key of the node's agent: the base64 of the seed of
// an ed25519 key. A node without the file has no agent.
const AgentKeyFile = "agent.key"

// WriteAgentKey writes the key of a home's agent. It overwrites nothing.
func WriteAgentKey(home string, key ed25519.PrivateKey) error {
	if err := durable.OS.WriteNew(filepath.Join(home, AgentKeyFile), []byte(SeedText(key)), 0o600); err != nil {
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	return nil
}

// WriteGenesis replaces the genesis of a home whose chain has not begun.
func WriteGenesis(home string, g chain.Genesis) error {
	if _, err := g.ChainStarted(); err != nil {
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	text, err := json.MarshalIndent(g, "", "  ")
	if err == nil {
		err = durable.OS.Replace(filepath.Join(home, chain.GenesisFile), append(text, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	return nil
}

// ReadAgent returns the name and the key of a home's agent. The name is empty if the home has no
// key. Errors are exit.ErrConfig: the file has no key, or no agent of the genesis has it.
func ReadAgent(home string, g chain.Genesis) (name string, key ed25519.PrivateKey, err error) {
	path := filepath.Join(home, AgentKeyFile)
	key, err = ReadSeed(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	public := key.Public().(ed25519.PublicKey)
	for _, a := range g.Agents {
		if public.Equal(ed25519.PublicKey(a.Key)) {
			return a.Name, key, nil
		}
	}

	return "", nil, fmt.Errorf("%w: %s: its public key %s is that of no agent in %s", exit.ErrConfig, path,
		base64.StdEncoding.EncodeToString(public), chain.GenesisFile)
}
