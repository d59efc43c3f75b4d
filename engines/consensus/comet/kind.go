package comet

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/coppice-go/coppice/engines/backend/governance"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet/certificate"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/process"
)

// Name is the name of the Kind.
const Name = "cometbft"

// Kind is consensus by CometBFT, among validators that agree. The home of a node contains a
// CometBFT home (comethome.Dir).
type Kind struct {
	// Command, if set, runs CometBFT in place of the program's own hidden command. It is for
	// programs that embed a node and call child.Run in their own way.
	Command []string

	// Extender, if set, extends this validator's votes, verifies those of other validators, and
	// makes transactions of them if it is also a consensus.Proposer. It takes effect on a chain
	// whose genesis has vote_extensions_enable_height (InitOptions.VoteExtensionsHeight). All
	// validators of the chain need an extender that judges alike. A backend may also be the
	// extender: it then executes the transactions that it proposed.
	Extender consensus.VoteExtender
}

var (
	_ consensus.Homed      = Kind{}
	_ consensus.Verifier   = Kind{}
	_ consensus.Maintainer = Kind{}
	_ consensus.Restorer   = Kind{}
	_ consensus.Copier     = Driver{}
	_ consensus.Certifier  = Driver{}
)

// InitOptions describe the CometBFT home that Kind.Init makes in the home of a node.
type InitOptions struct {
	Profile comethome.Profile // empty: tuned
	P2P     string            // host:port; empty is 127.0.0.1:26656
	RPC     string            // host:port; empty is 127.0.0.1:26657
	Moniker string

	// VoteExtensionsHeight is the first height at which the chain's validators extend their votes;
	// 0 means never. See Kind.Extender.
	VoteExtensionsHeight uint64

	// StateSync, if set, makes the node begin with a snapshot of its peers.
	StateSync *comethome.StateSync

	// Join, if set, is the chain of running nodes that the node joins (comethome.Fetch). The home
	// takes the genesis of that chain.
	Join *comethome.Chain

	// Import, if set, is a CometBFT home from which keys, configuration and genesis are taken. The
	// other options are then ignored.
	Import string
}

// Name returns "cometbft".
func (Kind) Name() string { return Name }

// errNoSalvage is the error for a salvage of the log of a home with this kind. It is not needed,
// because the chain still has the blocks that a damaged log has lost.
var errNoSalvage = errors.New("the log of a home with consensus cometbft is not salvaged: its peers have the " +
	"chain, and 'coppice init --consensus cometbft --import HOME/comet' " +
	"makes a new home with its keys, which fetches it; see Damage in docs/cometbft.md before you do")

// Traits returns the kind's traits.
func (Kind) Traits() consensus.Traits {
	return consensus.Traits{
		Doc: "cometbft agrees with others, and has a home of its own in this one (comet)",
		Part: consensus.Part{
			Note: "CometBFT, a process of its own", Strategy: supervisor.RestForOne,
			Intensity: supervisor.Intensity{Max: 10, Period: 60 * time.Second},
			Children: []consensus.Place{
				{ID: childResets, Note: "makes the resets that are asked for, one after another"},
				{ID: childABCI, Note: "the application, on a unix socket"},
				{ID: childProcess, Note: "CometBFT"},
				{ID: childWatchdog, Note: "restarts a CometBFT whose height stands still without an excuse"},
				{ID: childFeed, Note: "hands accepted transactions to CometBFT's mempool"},
			},
		},
		StateSync: true, NoSalvage: errNoSalvage,
		Validators: governance.Updates, Conduct: conduct, Votes: votes, Class: comethome.Class,
		Commands: []consensus.Command{{
			Name: child.Command, Short: "Run CometBFT: the node starts this by itself", New: childCommand,
		}},
	}
}

func childCommand(f *flag.FlagSet) func(context.Context) (int, error) {
	var o child.Options
	o.Flags(f)
	return func(ctx context.Context) (int, error) {
		process.WatchParent()
		err := child.Run(ctx, o)
		return child.Status(err), err
	}
}

// Open returns the driver of a home. It returns an error if the genesis of the home's CometBFT does
// not carry the genesis of the home.
func (k Kind) Open(h consensus.Home) (consensus.Driver, error) {
	if err := resettable(h); err != nil {
		return nil, err
	}

	seen := newHealth(h.Now)
	seen.pause = h.Pause
	state, err := h.Genesis.AppState()
	return Driver{
		Home: comethome.Dir(h.Dir), AppState: state, Command: k.Command, Extender: k.Extender,
		Intensity: h.Intensity, Retain: h.RetainBlocks, MemoryShare: h.MemoryShare, Manager: h.Manager,
		Version: h.Version, Changed: h.Changed, Log: h.Log.Named("comet"),
		Now: h.Now, health: seen, keep: new(blockKeep), agents: len(h.Genesis.Agents),
		Prunes: h.Genesis.Resets.Prunes(),
	}, err
}

// resettable returns an error if the genesis allows resets that this home cannot take part in. A
// node that is left on the old chain by several validators finds them only over their APIs.
func resettable(h consensus.Home) error {
	if h.Genesis.Resets == nil || h.Genesis.Resets.Prunes() || len(h.Peers) > 0 {
		return nil
	}
	theirs, err := comethome.ReadFirstGenesis(comethome.Dir(h.Dir))
	if err != nil {
		return err
	}
	if n := len(theirs.Validators); n > 1 {
		return fmt.Errorf(`%w: genesis.json has "resets", the chain has %d validators, and reset.peers is empty: want `+
			"the addresses of the other nodes' APIs", comethome.ErrGenesis, n)
	}

	return nil
}

// Claim returns an error if the home contains a CometBFT home. A node with another consensus would
// commit blocks in it that its network never sees, and could not go back.
func (Kind) Claim(dir string) error {
	if _, err := os.Stat(comethome.Dir(dir)); err != nil {
		return nil
	}
	return fmt.Errorf("there is a CometBFT home in %s: want %q, as the chain's other nodes have; a node without "+
		"peers wants a home of its own", comethome.Dir(dir), Name)
}

// Backends returns the governance backend, with the validators that the chain began with.
func (Kind) Backends(dir string, g chain.Genesis) ([]chain.Backend, error) {
	theirs, err := comethome.ReadFirstGenesis(comethome.Dir(dir))
	if err != nil {
		return nil, err
	}

	var set []governance.Validator
	for _, v := range theirs.Validators {
		set = append(set, governance.Validator{PubKey: v.PubKey, Power: v.Power})
	}

	return []chain.Backend{governance.New(g.GovernanceKey, g.ChainID, set).For(g.Resets)}, nil
}

// initOptions returns options as InitOptions; nil is the zero InitOptions.
func initOptions(options any) (InitOptions, error) {
	o, ok := options.(InitOptions)
	if !ok && options != nil {
		return o, fmt.Errorf("options of consensus %s: a %T, want a %T", Name, options, o)
	}
	return o, nil
}

// Genesis returns the genesis of an imported chain or of a chain to join, or nil if the options
// name neither.
func (Kind) Genesis(chainID string, options any) (*chain.Genesis, error) {
	o, err := initOptions(options)
	if err != nil {
		return nil, err
	}

	var theirs comethome.Genesis
	from := o.Import

	switch {
	case o.Join != nil:
		theirs, from = o.Join.Genesis, "the chain to join"
	case from == "":
		return nil, nil
	default:
		if theirs, err = comethome.ReadGenesis(from); err != nil {
			return nil, err
		}
	}

	ours, err := comethome.Carried(chainID, theirs, from)
	return &ours, err
}

// Init makes the CometBFT home in a home. Unless the options say otherwise, it is that of the only
// validator of a new chain.
func (Kind) Init(h consensus.Home, options any) error {
	o, err := initOptions(options)
	if err != nil {
		return err
	}

	dir := comethome.Dir(h.Dir)
	if o.Import != "" {
		_, err := comethome.Import(dir, o.Import)
		return err
	}

	id, err := comethome.Init(dir, comethome.Options{
		Profile: o.Profile, Moniker: o.Moniker, P2P: o.P2P, RPC: o.RPC,
		EmptyEvery: h.EmptyEvery, MaxTxBytes: h.Genesis.Limits.MaxTxBytes,
	})
	if err != nil {
		return err
	}

	if o.StateSync != nil {
		if err := comethome.SetStateSync(dir, *o.StateSync); err != nil {
			return err
		}
	}

	if o.Join != nil {
		return comethome.JoinChain(dir, *o.Join)
	}

	id.Validator.Power = 10
	return comethome.Carry(dir, h.Genesis,
		comethome.Genesis{Validators: []comethome.Validator{id.Validator},
			VoteExtensionsHeight: o.VoteExtensionsHeight})
}

// Verify reads the CometBFT home in a home (see comethome.Verify), and then makes the checks that
// CometBFT's process makes of it at its start.
func (Kind) Verify(ctx context.Context, h consensus.Home, s chain.State) error {
	home := comethome.Dir(h.Dir)
	if err := comethome.Verify(ctx, home, s); err != nil {
		return err
	}
	if err := verifyProofs(home, h.Genesis.ChainID); err != nil {
		return err
	}
	return child.Verify(home)
}

// verifyProofs reads what a home keeps of the epochs of its chain.
func verifyProofs(home, name string) error {
	epochs, err := certificate.Load(comethome.CertificateDir(home))
	if err == nil {
		err = certificate.CheckAll(name, epochs)
	}
	if errors.Is(err, certificate.ErrCertificate) {
		return fmt.Errorf("%w: %s: %w", comethome.ErrChainDamage, comethome.CertificateDir(home), err)
	}
	return err
}

// Prune removes old blocks and states of the CometBFT home in a home (see comethome.Prune).
func (Kind) Prune(ctx context.Context, h consensus.Home, o consensus.PruneOptions) (consensus.Pruned, error) {
	return comethome.Prune(ctx, comethome.Dir(h.Dir), o)
}

// Compact compacts the databases of the CometBFT home in a home (see comethome.Compact).
func (Kind) Compact(ctx context.Context, h consensus.Home, progress func(step string, done, total uint64)) (
	[]consensus.Size, error) {
	return comethome.Compact(ctx, comethome.Dir(h.Dir), progress)
}

// Reset returns an error, because it is not supported yet.
func (Kind) Reset(consensus.Home) error {
	return fmt.Errorf("reset of a home with consensus %s: %w", Name, errors.ErrUnsupported)
}
