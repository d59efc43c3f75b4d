package consensus

import (
	"context"
	"flag"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// Kind is a kind of consensus that a program ships. The program registers it by name (Register), or
// hands it to one node. The node takes from it everything that differs from kind to kind, and knows
// none by name. A Kind that keeps files of its own in the home of a node is a Homed, too.
type Kind interface {
	// Name is the kind's value of consensus.kind in the configuration.
	Name() string

	// Traits describe the kind. They are the same for all homes.
	Traits() Traits

	// Open makes the driver of a home.
	Open(h Home) (Driver, error)
}

// Traits describe a kind of consensus. The zero value is that of a kind whose driver is a single
// worker, and that has nothing to add to a node.
type Traits struct {
	// Doc says for the documentation of consensus.kind what the kind is: a clause that begins with
	// its name.
	Doc string

	// Part is the kind's part of the specified tree.
	Part Part

	// StateSync reports whether the consensus carries snapshots of the state from peer to peer.
	StateSync bool

	// NoBackup and NoSalvage, if set, are why neither a backup of a home nor a salvage of its log
	// is made, and what to do instead.
	NoBackup, NoSalvage error

	// Validators, if set, returns what a block and its results change in the validator set.
	Validators func(b chain.Block, results []*logv1.TxResult) []*logv1.ValidatorUpdate

	// Class, if set, returns what an error of the kind's means for the process.
	Class func(err error) Class

	// Commands are those that the kind runs as processes of its own.
	Commands []Command
}

// Part is a kind's place in the specified tree: a single worker, or a supervisor if it has
// Children.
type Part struct {
	Note      string
	Strategy  supervisor.Strategy
	Intensity supervisor.Intensity
	Children  []Place // in start order
}

// Place is a worker in a Part.
type Place struct{ ID, Note string }

// Class is what an error means for the process. An error that no restart mends is ErrFinal besides.
type Class int

// Classes of errors.
const (
	None   Class = iota
	Damage       // data is lost, or is not what was written
	Config       // a configuration or a genesis cannot be used as it is
)

// Command is a command of the program that only the node itself runs.
type Command struct {
	Name, Short string

	// New defines the command's flags in f, and returns what runs it. The status is the process's
	// exit code if err is not nil.
	New func(f *flag.FlagSet) (run func(ctx context.Context) (status int, err error))
}

// Home is the home of a node, for a Kind.
type Home struct {
	Dir     string
	Genesis chain.Genesis

	// The configuration's values for the consensus.
	EmptyEvery   time.Duration
	MaxTxs       int
	RetainBlocks uint64

	Intensity supervisor.Intensity // of the kind's Part, by the profile of the tree
	Version   string
	Log       *zap.Logger
	Now       func() time.Time
}

// Homed is a Kind that keeps files of its own in the home of a node. Options are of the kind's own
// type; nil means its defaults.
type Homed interface {
	Kind

	// Genesis returns the genesis of the chain that options bring, such as an imported one, or nil
	// if they bring none. An empty chainID stands for any.
	Genesis(chainID string, options any) (*chain.Genesis, error)

	// Init makes the kind's files in a new home.
	Init(h Home, options any) error

	// Claim returns an error if the home is of this kind, for a node whose consensus is another: it
	// says what was found and what is wanted.
	Claim(dir string) error

	// Backends returns the backends that every node of the home's chain has. They decide results,
	// so they go by what the nodes of a chain share. A home that is not of this kind has none.
	Backends(dir string, g chain.Genesis) ([]chain.Backend, error)

	// Reset makes the kind's files those of a node whose chain begins anew with the genesis.
	Reset(h Home) error
}

var registry struct {
	mu    sync.Mutex
	kinds []Kind
}

// Register makes kinds known by their names. The first one is the default of the configuration. A
// kind replaces an earlier one of the same name.
func Register(kinds ...Kind) {
	registry.mu.Lock()
	defer registry.mu.Unlock()

	for _, k := range kinds {
		if i := slices.IndexFunc(registry.kinds, named(k.Name())); i >= 0 {
			registry.kinds[i] = k
		} else {
			registry.kinds = append(registry.kinds, k)
		}
	}
}

// Kinds returns the registered kinds, the default one first.
func Kinds() []Kind {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	return slices.Clone(registry.kinds)
}

// Lookup returns the registered kind of a name.
func Lookup(name string) (k Kind, ok bool) {
	kinds := Kinds()
	i := slices.IndexFunc(kinds, named(name))
	if i < 0 {
		return nil, false
	}
	return kinds[i], true
}

func named(name string) func(Kind) bool { return func(k Kind) bool { return k.Name() == name } }

// Classify returns what err means by the first of the registered kinds that has something to say.
func Classify(err error) Class {
	for _, k := range Kinds() {
		if of := k.Traits().Class; of != nil {
			if c := of(err); c != None {
				return c
			}
		}
	}
	return None
}
