package chain

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// GenesisFile is the name of the genesis in the home of a node.
const GenesisFile = "genesis.json"

// ErrGenesis: a genesis cannot start a chain. The error names the key, or the place in the text.
var ErrGenesis = errors.New("genesis")

// genesisError wraps an error to make it an ErrGenesis. The text stays that of the wrapped error.
type genesisError struct{ error }

func (genesisError) Is(target error) bool { return target == ErrGenesis }

func (e genesisError) Unwrap() error { return e.error }

// Genesis is what all nodes of a chain share from its first block on. It is not configuration:
// changing it makes another chain.
type Genesis struct {
	ChainID       string    `json:"chain_id"`
	GenesisTime   time.Time `json:"genesis_time"`
	InitialHeight uint64    `json:"initial_height"`
	Limits        Limits    `json:"limits"`

	// GovernanceKey is the ed25519 key, in base64, whose holder changes the validator set of a
	// chain that has validators. If it is empty, nobody can change the set.
	GovernanceKey []byte `json:"governance_key,omitempty"`

	// Agents are the parties of the chain's service of rounds. A chain without agents has none.
	Agents []Agent `json:"agents,omitempty"`

	// AgentThreshold is the number of agents that must agree: from ⌈(2n+1)/3⌉, which 0 stands for,
	// to the number n of all agents.
	AgentThreshold uint64 `json:"agent_threshold,omitempty"`

	// Resets, if set, allows resets of the chain, and says how they are made.
	Resets *Resets `json:"resets,omitempty"`
}

// Resets say how a chain is reset.
type Resets struct {
	Mode   string `json:"mode"`   // Regenesis or Prune
	Offset uint64 `json:"offset"` // the next epoch begins this many heights after the decision; 0 with Prune
}

// Modes of resets.
const (
	Regenesis = "regenesis" // a new chain begins with the state of the old one
	Prune     = "prune"     // the chain goes on, and what is before the decision may be removed
)

// Offsets of resets. A block after the decision may still be signed in the old chain, so the new
// chain begins well above it.
const (
	MinResetOffset     = 10
	DefaultResetOffset = 20
)

// MaxResetName is the largest length of the name of a chain with resets, in bytes. Its chain ids
// have a hyphen and up to 20 digits after the name.
const MaxResetName = MaxChainID - 21

// AppState returns g as JSON, for a consensus that has a genesis of its own and carries ours in it.
// The same g always gives the same bytes.
func (g Genesis) AppState() (json.RawMessage, error) { return json.Marshal(g) }

// Limits bound every transaction, the same on every node.
type Limits struct {
	Window         string `json:"window"` // how far ahead of the block time valid_until may lie
	MaxTxBytes     uint64 `json:"max_tx_bytes"`
	MaxTxOps       uint64 `json:"max_tx_ops"`
	MaxTxSteps     uint64 `json:"max_tx_steps"`
	MaxResultBytes uint64 `json:"max_result_bytes"`
	MaxBlockBytes  uint64 `json:"max_block_bytes"`
}

// MaxChainID is the largest length of a chain id in bytes. It is CometBFT's limit.
const MaxChainID = 50

// NewGenesis returns the genesis of a new chain with the default limits.
func NewGenesis(chainID string, now time.Time) Genesis {
	p := DefaultParams()
	return Genesis{
		ChainID: chainID, GenesisTime: now.UTC().Truncate(time.Millisecond), InitialHeight: 1,
		Limits: Limits{
			Window: time.Duration(p.WindowNs).String(), MaxTxBytes: p.MaxTxBytes, MaxTxOps: p.MaxTxOps,
			MaxTxSteps: p.MaxTxSteps, MaxResultBytes: p.MaxResultBytes, MaxBlockBytes: p.MaxBlockBytes,
		},
	}
}

// ChainStarted checks the genesis and returns the record that starts its chain. An error is an
// ErrGenesis and names the key whose value is invalid.
func (g Genesis) ChainStarted() (*logv1.ChainStarted, error) {
	bad := func(key, format string, args ...any) (*logv1.ChainStarted, error) {
		return nil, genesisError{fmt.Errorf("%s: %s: %w", GenesisFile, key, fmt.Errorf(format, args...))}
	}
	window, err := time.ParseDuration(g.Limits.Window)
	agents, threshold, badAgents := g.agents()

	switch l := g.Limits; {
	case g.ChainID == "" || len(g.ChainID) > MaxChainID:
		return bad("chain_id", "%d bytes, want 1 to %d", len(g.ChainID), MaxChainID)

	case g.GenesisTime.IsZero():
		return bad("genesis_time", "missing")

	case g.InitialHeight == 0:
		return bad("initial_height", "0, want at least 1")

	case err != nil:
		return bad("limits.window", "%v", err)

	case window < time.Second || window > 24*time.Hour:
		return bad("limits.window", "%v, want 1s to 24h", window)

	case len(g.GovernanceKey) != 0 && len(g.GovernanceKey) != ed25519.PublicKeySize:
		return bad("governance_key", "%d bytes, want %d: an ed25519 public key in base64", len(g.GovernanceKey),
			ed25519.PublicKeySize)

	case badAgents != nil:
		return nil, genesisError{fmt.Errorf("%s: %w", GenesisFile, badAgents)}

	case g.Resets != nil && g.Resets.Mode != Regenesis && g.Resets.Mode != Prune:
		return bad("resets.mode", "%q, want %q or %q", g.Resets.Mode, Regenesis, Prune)

	case g.Resets.Prunes() && g.Resets.Offset != 0:
		return bad("resets.offset", "%d, want 0 with the mode %q: heights go on", g.Resets.Offset, Prune)

	case g.Resets != nil && !g.Resets.Prunes() &&
		(g.Resets.Offset < MinResetOffset || g.Resets.Offset > maxResetOffset):
		return bad("resets.offset", "%d, want %d to %d (%d is usual)", g.Resets.Offset, MinResetOffset, maxResetOffset,
			DefaultResetOffset)

	case g.Resets != nil && !g.Resets.Prunes() && len(g.ChainID) > MaxResetName:
		return bad("chain_id", "%d bytes, want at most %d with resets: each reset adds a hyphen and a number",
			len(g.ChainID), MaxResetName)

	case l.MaxTxBytes == 0 || l.MaxTxBytes > MaxTxBytes:
		return bad("limits.max_tx_bytes", "%d, want 1 to %d", l.MaxTxBytes, MaxTxBytes)

	case l.MaxTxOps == 0:
		return bad("limits.max_tx_ops", "0, want at least 1")

	case l.MaxBlockBytes < l.MaxTxBytes || l.MaxBlockBytes > MaxTxBytes:
		return bad("limits.max_block_bytes", "%d, want max_tx_bytes (%d) to %d", l.MaxBlockBytes, l.MaxTxBytes,
			MaxTxBytes)
	}

	return &logv1.ChainStarted{
		ChainId: g.ChainID, InitialHeight: g.InitialHeight, GenesisTimeNs: g.GenesisTime.UnixNano(),
		Params: &logv1.Params{
			WindowNs: int64(window), MaxTxBytes: g.Limits.MaxTxBytes, MaxTxOps: g.Limits.MaxTxOps,
			MaxTxSteps: g.Limits.MaxTxSteps, MaxResultBytes: g.Limits.MaxResultBytes,
			MaxBlockBytes: g.Limits.MaxBlockBytes,
			GovernanceKey: g.GovernanceKey, Agents: agents, AgentThreshold: threshold,
			ResetOffset: g.resetOffset(),
		},
	}, nil
}

// maxResetOffset bounds the heights that a reset skips.
const maxResetOffset = 1_000_000

func (g Genesis) resetOffset() uint64 {
	if g.Resets == nil {
		return 0
	}
	return g.Resets.Offset
}

// ParseGenesis parses data, the contents of the genesis file at path. The path is used in errors
// only. An unknown key is an error. Each error is an ErrGenesis.
func ParseGenesis(path string, data []byte) (g Genesis, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&g); err != nil {
		return g, genesisError{fmt.Errorf("%s: %w", path, JSONError(err))}
	}
	if d.More() {
		return g, genesisError{fmt.Errorf("%s: something follows the genesis at byte %d", path, d.InputOffset())}
	}

	return g, nil
}

// DefaultParams returns the limits of a genesis that NewGenesis makes.
func DefaultParams() *logv1.Params {
	return &logv1.Params{
		WindowNs:       int64(10 * time.Minute),
		MaxTxBytes:     1 << 20,
		MaxTxOps:       10_000,
		MaxTxSteps:     10_000_000,
		MaxResultBytes: 1 << 20,
		MaxBlockBytes:  4 << 20,
	}
}
