package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/engines/consensus/comet/governance"
)

// Kinds of consensus.
const (
	Solo     = "solo"     // a node without peers
	CometBFT = "cometbft" // validators that agree; the home has a CometBFT home in it
)

// CometDir is where the CometBFT home of a home lies, if it has one.
func CometDir(home string) string { return filepath.Join(home, "comet") }

// cometDriver is the driver of a home with CometBFT, whose genesis must carry ours.
func (n *Node) cometDriver() (consensus.Driver, error) {
	g, err := ReadGenesis(n.home)
	if err != nil {
		return nil, err
	}
	if err := governed(n.home, n.backends); err != nil {
		return nil, err
	}
	if n.genesis.AppState, err = g.appState(); err != nil {
		return nil, err
	}
	return comet.Driver{
		Home: CometDir(n.home), Intensity: n.plan.find("coppice/node/engines/consensus").Intensity, Version: n.version, Log: n.log.Named("comet"),
		Command: n.cometCommand,
	}, nil
}

// governed adds the backend of governance to those of a home whose chain is CometBFT's. Which backends there are decides results, so it
// goes by what the nodes of a chain share.
func governed(home string, backends map[string]engines.Backend) error {
	if _, err := os.Stat(CometDir(home)); err != nil {
		return nil
	}
	theirs, err := comet.ReadGenesis(CometDir(home))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	ours, err := ReadGenesis(home)
	if err != nil {
		return err
	}
	var set []governance.Validator
	for _, v := range theirs.Validators {
		set = append(set, governance.Validator{PubKey: v.PubKey, Power: v.Power})
	}
	backends[governance.Name] = governance.New(ours.GovernanceKey, ours.ChainID, set)
	return nil
}

// WithCometCommand makes the node run CometBFT by that command instead of its own program's hidden one: for programs that embed a
// node, and have a way to call comet.RunChild.
func WithCometCommand(command ...string) Option {
	return func(n *Node) { n.cometCommand = command }
}

// CometOptions say what kind of CometBFT home Init makes in a home.
type CometOptions struct {
	Profile comet.Profile // empty: tuned
	P2P     string        // host:port; empty is 127.0.0.1:26656
	RPC     string        // host:port; empty is 127.0.0.1:26657
	Moniker string

	// Import is a CometBFT home to take keys, configuration and genesis from; the others are then not looked at.
	Import string
}

// importedGenesis is the genesis of an imported chain: ours, if its genesis carries one, else its names with the default limits.
func importedGenesis(from string) (Genesis, error) {
	theirs, err := comet.ReadGenesis(from)
	if err != nil {
		return Genesis{}, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	g := NewGenesis(theirs.ChainID, theirs.Time)
	g.GenesisTime, g.InitialHeight = theirs.Time, theirs.InitialHeight
	var carried Genesis
	if json.Unmarshal(theirs.AppState, &carried) == nil && carried.ChainID == theirs.ChainID {
		g = carried
	}
	return g, nil
}

// initComet makes the CometBFT home of a home, the only validator of its chain.
func initComet(home string, g Genesis, c Config, o CometOptions) error {
	if o.Import != "" {
		if _, err := comet.ImportHome(CometDir(home), o.Import); err != nil {
			return fmt.Errorf("%w: %w", ErrConfig, err)
		}
		return nil
	}
	id, err := comet.InitHome(CometDir(home), comet.HomeOptions{
		Profile: o.Profile, Moniker: o.Moniker, P2P: o.P2P, RPC: o.RPC, EmptyEvery: time.Duration(c.Consensus.EmptyEvery), MaxTxBytes: g.Limits.MaxTxBytes,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	id.Validator.Power = 10
	return WriteCometGenesis(home, g, []comet.Validator{id.Validator})
}

// WriteCometGenesis writes CometBFT's genesis of a home whose chain has not begun: that of g, which it carries, so that nodes
// with other limits are of another chain, and with these validators.
func WriteCometGenesis(home string, g Genesis, validators []comet.Validator) error {
	state, err := g.appState()
	if err != nil {
		return err
	}
	if err := comet.WriteGenesis(CometDir(home), comet.Genesis{
		ChainID: g.ChainID, Time: g.GenesisTime, InitialHeight: g.InitialHeight, Validators: validators,
		MaxBlockBytes: g.Limits.MaxBlockBytes, AppState: state,
	}); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return nil
}

// cometDamage tells whether an error of the driver's is one of lost data.
func cometDamage(err error) bool { return errors.Is(err, comet.ErrChainData) }

// cometConfigError tells whether an error of the driver's is one of configuration.
func cometConfigError(err error) bool {
	return errors.Is(err, comet.ErrHome) || errors.Is(err, comet.ErrGenesis)
}
