package chain

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"

	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// MaxAgentName is the largest length of an agent's name in bytes.
const MaxAgentName = 64

// Agent is one party of the chain's service of rounds, as genesis.json registers it.
type Agent struct {
	Name string `json:"name"`

	// Key is the ed25519 key, in base64, of the agent's payloads. It is not a validator's key.
	Key []byte `json:"key"`

	// Validator is the address of the agent's validator, in hexadecimal; empty if it has none. The
	// service counts what the validator does wrong as offences of the agent.
	Validator string `json:"validator,omitempty"`
}

// agents returns the agents of the genesis as the record of the chain has them. An error begins
// with the key whose value is invalid.
func (g Genesis) agents() (out []*logv1.Agent, threshold uint32, err error) {
	names, keys, validators := map[string]bool{}, map[string]bool{}, map[string]bool{}

	for i, a := range g.Agents {
		validator, err := hex.DecodeString(a.Validator)

		switch {
		case a.Name == "" || len(a.Name) > MaxAgentName:
			return nil, 0, fmt.Errorf("agents[%d].name: %d bytes, want 1 to %d", i, len(a.Name), MaxAgentName)
		case names[a.Name]:
			return nil, 0, fmt.Errorf("agents[%d].name: %q is registered twice", i, a.Name)
		case len(a.Key) != ed25519.PublicKeySize:
			return nil, 0, fmt.Errorf("agents[%d].key: %d bytes, want %d: an ed25519 public key in base64", i,
				len(a.Key), ed25519.PublicKeySize)
		case keys[string(a.Key)]:
			return nil, 0, fmt.Errorf("agents[%d].key: another agent has it, too", i)
		case err != nil:
			return nil, 0, fmt.Errorf("agents[%d].validator: %w: want the address of a validator in hexadecimal", i,
				err)
		case validators[string(validator)]:
			return nil, 0, fmt.Errorf("agents[%d].validator: another agent has it, too", i)
		}

		names[a.Name], keys[string(a.Key)] = true, true
		if len(validator) > 0 {
			validators[string(validator)] = true
		}
		out = append(out, &logv1.Agent{Name: a.Name, Key: a.Key, Validator: validator})
	}

	n := uint64(len(g.Agents))
	if least := (2*n + 3) / 3; g.AgentThreshold != 0 && (g.AgentThreshold < least || g.AgentThreshold > n) {
		return nil, 0, fmt.Errorf("agent_threshold: %d of %d agents, want %d to %d", g.AgentThreshold, n, least, n)
	}

	return out, uint32(g.AgentThreshold), nil
}

// GenesisBackend is a Backend that depends on the genesis of the chain, for instance on its agents.
// A node, and whatever else executes transactions, uses the backend that ForGenesis returns.
type GenesisBackend interface {
	Backend

	// ForGenesis returns the backend of a chain. It has the same name.
	ForGenesis(g Genesis) (Backend, error)
}

// BindBackends replaces each GenesisBackend by the one of the chain.
func BindBackends(g Genesis, backends map[string]Backend) error {
	for name, b := range backends {
		unbound, ok := b.(GenesisBackend)
		if !ok {
			continue
		}

		bound, err := unbound.ForGenesis(g)
		if err != nil {
			return fmt.Errorf("backend %q: %w", name, err)
		}
		backends[name] = bound
	}
	return nil
}
