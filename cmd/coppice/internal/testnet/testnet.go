// Package testnet runs several nodes of one chain on this machine. It makes their homes and, under
// a supervisor, runs their processes and the links between them, which can be cut. It is for trials
// and tests.
package testnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/internal/durable"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/plan"
)

// MaxNodes is how many nodes a testnet may have. Each node is two processes.
const MaxNodes = 32

// InitOptions configure a new testnet.
type InitOptions struct {
	Nodes         int
	ChainID       string        // empty: a random one
	EmptyEvery    time.Duration // 0: no blocks without work
	Profile       plan.Profile  // of the trees' limits
	CometProfile  comethome.Profile
	GovernanceKey []byte
	Agents        bool   // each node has an agent of the chain's service of rounds
	ResetOffset   uint64 // if not 0, the chain may be reset (chain.Resets)
}

// Net is a testnet in a directory.
type Net struct {
	Dir     string `json:"-"`
	ChainID string `json:"chain_id"`
	Nodes   int    `json:"nodes"`
	Added   int    `json:"added,omitempty"` // of Nodes, those that Add made
}

const fileName = "testnet.json"

// Home returns the home of a node.
func (n *Net) Home(i int) string { return filepath.Join(n.Dir, fmt.Sprintf("node%d", i)) }

// Init makes a testnet in a directory that has none. Its nodes are the validators of one chain,
// with equal power. The homes appear when all of them are made. An Init that is killed earlier
// leaves a directory whose name begins with ".making".
func Init(dir string, o InitOptions) (*Net, error) {
	if o.Nodes < 1 || o.Nodes > MaxNodes {
		return nil, fmt.Errorf("%w: %d nodes, want 1 to %d", exit.ErrConfig, o.Nodes, MaxNodes)
	}
	if _, err := os.Stat(filepath.Join(dir, fileName)); err == nil {
		return nil, fmt.Errorf("%w: %s is a testnet already", exit.ErrConfig, dir)
	}

	n := &Net{Dir: filepath.Clean(dir), Nodes: o.Nodes}

	for i := range o.Nodes {
		if _, err := os.Lstat(n.Home(i)); err == nil {
			return nil, fmt.Errorf("%w: %s is there, and %s is no testnet; name another directory", exit.ErrConfig,
				n.Home(i), dir)
		}
	}

	if err := os.MkdirAll(n.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	made, err := os.MkdirTemp(n.Dir, ".making")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	defer os.RemoveAll(made)

	whole, err := initIn(made, o)
	if err != nil {
		return nil, err
	}

	for i := range o.Nodes {
		if err := durable.OS.Rename(whole.Home(i), n.Home(i)); err != nil {
			return nil, fmt.Errorf("%w: %w", exit.ErrConfig, err)
		}
	}

	n.ChainID = whole.ChainID

	return n, n.write()
}

// initIn makes the homes in dir.
func initIn(dir string, o InitOptions) (*Net, error) {
	n := &Net{Dir: dir, Nodes: o.Nodes}
	var genesis *chain.Genesis
	var set []comethome.Validator
	resets, err := resettable(o)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	for i := range o.Nodes {
		assigned := []config.Assignment{
			{Key: "consensus.kind", Value: comet.Name, Flag: "--consensus"},
			{Key: "consensus.empty_every", Value: o.EmptyEvery.String(), Flag: "--empty-every"},
		}
		if resets != nil {
			assigned = append(assigned, resets[i]...)
		}

		g, err := home.Init(n.Home(i), home.InitOptions{
			ChainID: o.ChainID, Profile: o.Profile, Listen: "127.0.0.1:0", Genesis: genesis,
			GovernanceKey: o.GovernanceKey, ResetOffset: o.ResetOffset,
			Consensus: comet.InitOptions{Profile: o.CometProfile, Moniker: fmt.Sprintf("node%d", i)},
			Set:       assigned,
		})
		if err != nil {
			return nil, err
		}

		genesis = &g
		id, err := comethome.ReadIdentity(comethome.Dir(n.Home(i)))
		if err != nil {
			return nil, err
		}

		id.Validator.Power = 10
		set = append(set, id.Validator)
	}

	if o.Agents {
		if err := n.register(genesis, set); err != nil {
			return nil, err
		}
	}

	for i := range o.Nodes {
		if err := comethome.Carry(comethome.Dir(n.Home(i)), *genesis, comethome.Genesis{Validators: set}); err != nil {
			return nil, fmt.Errorf("%w: %w", exit.ErrConfig, err)
		}
	}

	n.ChainID = genesis.ChainID

	return n, nil
}

// Open opens a testnet. If there is none, the error is fs.ErrNotExist.
func Open(dir string) (*Net, error) {
	data, err := os.ReadFile(filepath.Join(dir, fileName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s is no testnet: make one with 'coppice testnet init': %w",
			exit.ErrConfig, dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	n := &Net{Dir: dir}
	if err := json.Unmarshal(data, n); err != nil || n.Nodes < 1 || n.Nodes > MaxNodes {
		return nil, fmt.Errorf("%w: %s: want the number of nodes, 1 to %d: %v", exit.ErrConfig,
			filepath.Join(dir, fileName), MaxNodes, err)
	}

	return n, nil
}
