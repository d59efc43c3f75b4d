package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/engines/consensus/comet/governance"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
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
		Home: CometDir(n.home), Intensity: n.plan.Find("coppice/node/engines/consensus").Intensity, Version: n.version,
		Log:     n.diagnostics.Named("comet"),
		Command: n.cometCommand, Extender: n.extender, Retain: uint64(n.config.Consensus.RetainBlocks),
	}, nil
}

// soloOnly refuses a home that is CometBFT's: alone it would commit blocks that its network never
// sees, and could not go back.
func soloOnly(home string) error {
	if _, err := os.Stat(CometDir(home)); err == nil {
		return fmt.Errorf("%w: consensus.kind = %q, and there is a CometBFT home in %s: want %q, as the chain's "+
			"other nodes have; a node without peers wants a home of its own",
			exit.ErrConfig, config.Solo, CometDir(home), config.CometBFT)
	}
	return nil
}

// governed adds the backend of governance to those of a home whose chain is CometBFT's. Which
// backends there are decides results, so it goes by what the nodes of a chain share.
func governed(home string, backends map[string]chain.Backend) error {
	if _, err := os.Stat(CometDir(home)); err != nil {
		return nil
	}
	theirs, err := comet.ReadGenesis(CometDir(home))
	if err != nil {
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
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

// WithCometCommand makes the node run CometBFT by that command instead of its own program's hidden
// one: for programs that embed a node, and have a way to call comet.RunChild.
func WithCometCommand(command ...string) Option {
	return func(n *Node) { n.cometCommand = command }
}

// WithVoteExtender has e extend this validator's votes, verify those of others, and, if it is a
// consensus.Proposer, make transactions of them. It has an effect on a chain of CometBFT's whose
// genesis has vote_extensions_enable_height (CometOptions.VoteExtensionsHeight); all its validators
// need one that judges alike. A backend may be one: it then executes what it proposed.
func WithVoteExtender(e consensus.VoteExtender) Option {
	return func(n *Node) { n.extender = e }
}

// CometOptions say what kind of CometBFT home Init makes in a home.
type CometOptions struct {
	Profile comet.Profile // empty: tuned
	P2P     string        // host:port; empty is 127.0.0.1:26656
	RPC     string        // host:port; empty is 127.0.0.1:26657
	Moniker string

	// VoteExtensionsHeight is from which height on the chain's validators extend their votes; 0 is
	// never. See WithVoteExtender.
	VoteExtensionsHeight uint64

	// StateSync, if set, has the node begin with a snapshot of its peers.
	StateSync *comet.StateSync

	// Join, if set, is the chain of running nodes that the node joins (comet.Fetch); its genesis is
	// the home's.
	Join *comet.Chain

	// Import is a CometBFT home to take keys, configuration and genesis from; the others are then
	// not looked at.
	Import string
}

// importedGenesis is the genesis of an imported chain, or of one to join.
func importedGenesis(o InitOptions) (Genesis, error) {
	if j := o.Comet.Join; j != nil {
		return carriedGenesis(o.ChainID, j.Genesis, "the chain to join")
	}

	from := o.Comet.Import
	theirs, err := comet.ReadGenesis(from)
	if err != nil {
		return Genesis{}, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	return carriedGenesis(o.ChainID, theirs, from)
}

// carriedGenesis is our genesis of a chain of CometBFT's: ours, if its genesis carries one, else
// its names and its size of blocks with the default limits. An empty chainID is any.
func carriedGenesis(chainID string, theirs comet.Genesis, from string) (Genesis, error) {
	bad := func(format string, args ...any) (Genesis, error) {
		return Genesis{}, fmt.Errorf("%w: the genesis of %s: %w", exit.ErrConfig, from, fmt.Errorf(format, args...))
	}

	if chainID != "" && chainID != theirs.ChainID {
		return bad("it is of chain %q, want %q", theirs.ChainID, chainID)
	}

	g := NewGenesis(theirs.ChainID, theirs.Time)
	g.GenesisTime, g.InitialHeight = theirs.Time, theirs.InitialHeight

	if theirs.MaxBlockBytes > chain.MaxTxBytes {
		return bad("its blocks have %d bytes of transactions, want at most %d: lower consensus_params.block.max_bytes",
			theirs.MaxBlockBytes, chain.MaxTxBytes)
	}

	g.Limits.MaxBlockBytes = theirs.MaxBlockBytes
	g.Limits.MaxTxBytes = min(g.Limits.MaxTxBytes, theirs.MaxBlockBytes)
	if !comet.CarriesState(theirs.AppState) {
		return g, nil
	}

	var carried Genesis
	d := json.NewDecoder(bytes.NewReader(theirs.AppState))
	d.DisallowUnknownFields()
	if err := d.Decode(&carried); err != nil {
		return bad("app_state is another application's: %w", err)
	}
	if carried.ChainID != theirs.ChainID {
		return bad("app_state is of chain %q, and the rest of %q", carried.ChainID, theirs.ChainID)
	}

	return carried, nil
}

// initComet makes the CometBFT home of a home, the only validator of its chain.
func initComet(home string, g Genesis, c config.Config, o CometOptions) error {
	if o.Import != "" {
		if _, err := comet.ImportHome(CometDir(home), o.Import); err != nil {
			return fmt.Errorf("%w: %w", exit.ErrConfig, err)
		}
		return nil
	}

	id, err := comet.InitHome(CometDir(home), comet.HomeOptions{
		Profile: o.Profile, Moniker: o.Moniker, P2P: o.P2P, RPC: o.RPC,
		EmptyEvery: time.Duration(c.Consensus.EmptyEvery), MaxTxBytes: g.Limits.MaxTxBytes,
	})

	if err != nil {
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	if o.StateSync != nil {
		if err := comet.SetStateSync(CometDir(home), *o.StateSync); err != nil {
			return fmt.Errorf("%w: %w", exit.ErrConfig, err)
		}
	}

	if o.Join != nil {
		if err := comet.JoinChain(CometDir(home), *o.Join); err != nil {
			return fmt.Errorf("%w: %w", exit.ErrConfig, err)
		}
		return nil
	}

	id.Validator.Power = 10
	return writeCometGenesis(home, g,
		comet.Genesis{Validators: []comet.Validator{id.Validator}, VoteExtensionsHeight: o.VoteExtensionsHeight})
}

// WriteCometGenesis writes CometBFT's genesis of a home whose chain has not begun: that of g, which
// it carries, so that nodes with other limits are of another chain, and with these validators.
func WriteCometGenesis(home string, g Genesis, validators []comet.Validator) error {
	return writeCometGenesis(home, g, comet.Genesis{Validators: validators})
}

// writeCometGenesis writes theirs, filled in with what stands in ours.
func writeCometGenesis(home string, ours Genesis, theirs comet.Genesis) (err error) {
	theirs.ChainID, theirs.Time, theirs.InitialHeight, theirs.MaxBlockBytes = ours.ChainID, ours.GenesisTime, ours.
		InitialHeight, ours.Limits.MaxBlockBytes

	if theirs.AppState, err = ours.appState(); err != nil {
		return err
	}
	if err := comet.WriteGenesis(CometDir(home), theirs); err != nil {
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	return nil
}
