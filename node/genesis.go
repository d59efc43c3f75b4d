package node

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/node/exit"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Genesis is what all nodes of a chain share from its first block on. It is not configuration:
// changing it makes another chain.
type Genesis struct {
	ChainID       string    `json:"chain_id"`
	GenesisTime   time.Time `json:"genesis_time"`
	InitialHeight uint64    `json:"initial_height"`
	Limits        Limits    `json:"limits"`

	// GovernanceKey is the ed25519 key, in base64, whose holder changes the validator set of a
	// chain of CometBFT's; empty: nobody.
	GovernanceKey []byte `json:"governance_key,omitempty"`
}

// appState is the genesis as CometBFT's carries it: whatever nodes of one chain must share, one way
// to write it.
func (g Genesis) appState() (json.RawMessage, error) { return json.Marshal(g) }

// Limits bound every transaction, the same on every node.
type Limits struct {
	Window         string `json:"window"` // how far ahead of the block time valid_until may lie
	MaxTxBytes     uint64 `json:"max_tx_bytes"`
	MaxTxOps       uint64 `json:"max_tx_ops"`
	MaxTxSteps     uint64 `json:"max_tx_steps"`
	MaxResultBytes uint64 `json:"max_result_bytes"`
	MaxBlockBytes  uint64 `json:"max_block_bytes"`
}

// MaxChainID is how long a chain id may be, in bytes; CometBFT's limit.
const MaxChainID = 50

// NewGenesis is the genesis of a new chain with the default limits.
func NewGenesis(chainID string, now time.Time) Genesis {
	p := chain.DefaultParams()
	return Genesis{
		ChainID: chainID, GenesisTime: now.UTC().Truncate(time.Millisecond), InitialHeight: 1,
		Limits: Limits{
			Window: time.Duration(p.WindowNs).String(), MaxTxBytes: p.MaxTxBytes, MaxTxOps: p.MaxTxOps,
			MaxTxSteps: p.MaxTxSteps, MaxResultBytes: p.MaxResultBytes, MaxBlockBytes: p.MaxBlockBytes,
		},
	}
}

// chainStarted is the genesis as the record that starts the chain. Errors are ErrConfig and name
// the key.
func (g Genesis) chainStarted() (*logv1.ChainStarted, error) {
	bad := func(key, format string, args ...any) (*logv1.ChainStarted, error) {
		return nil, fmt.Errorf("%w: %s: %s: %s", exit.ErrConfig, genesisFile, key, fmt.Sprintf(format, args...))
	}
	window, err := time.ParseDuration(g.Limits.Window)

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

	case l.MaxTxBytes == 0 || l.MaxTxBytes > chain.MaxTxBytes:
		return bad("limits.max_tx_bytes", "%d, want 1 to %d", l.MaxTxBytes, chain.MaxTxBytes)

	case l.MaxTxOps == 0:
		return bad("limits.max_tx_ops", "0, want at least 1")

	case l.MaxBlockBytes < l.MaxTxBytes || l.MaxBlockBytes > chain.MaxTxBytes:
		return bad("limits.max_block_bytes", "%d, want max_tx_bytes (%d) to %d", l.MaxBlockBytes, l.MaxTxBytes,
			chain.MaxTxBytes)
	}

	return &logv1.ChainStarted{
		ChainId: g.ChainID, InitialHeight: g.InitialHeight, GenesisTimeNs: g.GenesisTime.UnixNano(),
		Params: &logv1.Params{
			WindowNs: int64(window), MaxTxBytes: g.Limits.MaxTxBytes, MaxTxOps: g.Limits.MaxTxOps,
			MaxTxSteps: g.Limits.MaxTxSteps, MaxResultBytes: g.Limits.MaxResultBytes,
			MaxBlockBytes: g.Limits.MaxBlockBytes,
			GovernanceKey: g.GovernanceKey,
		},
	}, nil
}

// readGenesis reads a genesis file as the record that starts the chain.
func readGenesis(path string) (*logv1.ChainStarted, error) {
	g, err := parseGenesis(path)
	if err != nil {
		return nil, err
	}
	return g.chainStarted()
}

// ReadGenesis reads the genesis of a home. Errors are ErrConfig.
func ReadGenesis(home string) (Genesis, error) {
	g, err := parseGenesis(filepath.Join(home, genesisFile))
	if err == nil {
		_, err = g.chainStarted()
	}
	return g, err
}

// parseGenesis reads a genesis file. Every key must be known.
func parseGenesis(path string) (g Genesis, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return g, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&g); err != nil {
		return g, fmt.Errorf("%w: %s, near byte %d: %w", exit.ErrConfig, path, d.InputOffset(), err)
	}
	if d.More() {
		return g, fmt.Errorf("%w: %s: something follows the genesis at byte %d", exit.ErrConfig, path, d.InputOffset())
	}

	return g, nil
}
