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
// gives it to one node. The node gets from it everything that differs from kind to kind; no other
// code of the node depends on a kind's name. A Kind that keeps its own files in the home of a node
// also implements Homed, and Restorer if a backup can have these files. Its Driver is then a
// Copier.
type Kind interface {
	// Name returns the kind's value of consensus.kind in the configuration.
	Name() string

	// Traits returns the kind's traits. They are the same for all homes.
	Traits() Traits

	// Open makes the driver of a home.
	Open(h Home) (Driver, error)
}

// Traits describe a kind of consensus. The zero value describes a kind whose driver is a single
// worker and that adds nothing to a node.
type Traits struct {
	// Doc describes the kind in the documentation of consensus.kind: a clause that begins with the
	// kind's name.
	Doc string

	// Part is the kind's part of the specified tree.
	Part Part

	// Alone reports whether a chain of this kind has one node only, so that no other node may
	// execute a transaction that this one has not made durable.
	Alone bool

	// StateSync reports whether the consensus carries snapshots of the state from peer to peer.
	StateSync bool

	// NoSalvage, if set, is the error with which a salvage of the log of a home is refused. It says
	// why, and what to do instead.
	NoSalvage error

	// Validators, if set, returns the changes that a block and its results make to the validator
	// set.
	Validators func(b chain.Block, results []*logv1.TxResult) []*logv1.ValidatorUpdate

	// Conduct, if set, returns the addresses of the validators whose votes a block lacks, and of
	// those that it proves to have signed twice, from the driver's request in the block.
	Conduct func(b chain.Block) (absent, doubleSigned [][]byte, err error)

	// Votes, if set, returns what the driver's request in a block says of the validators: their
	// votes on the block before, and the misbehaviour that the block proves. Both are the same on
	// all nodes.
	Votes func(request []byte) ([]CommitVote, []Misbehavior, error)

	// Class, if set, returns what an error of this kind of consensus means for the process.
	Class func(err error) Class

	// Commands are the commands that the kind runs as processes of its own.
	Commands []Command
}

// CommitVote is what a validator did about a block.
type CommitVote struct {
	Validator []byte // address
	Power     int64
	Flag      string // commit, nil, absent
}

// Misbehavior is a fault of a validator that a block proves.
type Misbehavior struct {
	Type       string // duplicate_vote, light_client_attack
	Validator  []byte // address
	Power      int64
	Height     uint64
	Time       time.Time
	TotalPower int64 // of all validators at Height
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

// Class is what an error means for the process. If no restart mends the error, it also wraps
// ErrFinal.
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

	// New defines the command's flags in f, and returns the function that runs the command. If err
	// is not nil, status is the exit code of the process.
	New func(f *flag.FlagSet) (run func(ctx context.Context) (status int, err error))
}

// Home is what a Kind gets to know about the home of a node.
type Home struct {
	Dir     string
	Genesis chain.Genesis

	// The configuration's values for the consensus.
	EmptyEvery   time.Duration
	MaxTxs       int
	RetainBlocks uint64
	MemoryShare  int // percentage of GOMEMLIMIT for the processes of the consensus

	Pause time.Duration // between two periods of the chain's service of rounds; 0: it has none

	Manager Manager // of a consensus that is restarted over HTTP

	// Changed, if set, is told each change of the consensus's own process. It must not wait.
	Changed func(Process)

	Peers []string // API addresses of the chain's other nodes, which Core.Peers asks

	Intensity supervisor.Intensity // of the kind's Part, by the profile of the tree
	Version   string
	Log       *zap.Logger
	Now       func() time.Time
}

// BackendKind is a Kind that brings backends of its own.
type BackendKind interface {
	Kind

	// Backends returns the backends that every node of the home's chain has. They decide results,
	// so they must depend only on what all nodes of a chain share. A home that does not belong to
	// this kind has none.
	Backends(dir string, g chain.Genesis) ([]chain.Backend, error)
}

// Manager says where a consensus listens for requests to restart it.
type Manager struct {
	Listen string // host:port; empty: nowhere

	// TokenFile has the token that each request from beyond this machine needs, unless
	// AllowUnauthenticated is set.
	TokenFile            string
	AllowUnauthenticated bool
}

// Homed is a Kind that keeps its own files in the home of a node. The type of options is the kind's
// own; nil stands for its defaults.
type Homed interface {
	BackendKind

	// Genesis returns the genesis of the chain that options bring, such as an imported one, or nil
	// if they bring none. An empty chainID stands for any.
	Genesis(chainID string, options any) (*chain.Genesis, error)

	// Init creates the kind's files in a new home.
	Init(h Home, options any) error

	// Claim returns an error if the home belongs to this kind. A node with another consensus calls
	// it before it uses the home. The error says what was found and what is wanted.
	Claim(dir string) error

	// Reset turns the kind's files into those of a node whose chain begins anew with the genesis of
	// h.
	Reset(h Home) error
}

// Verifier is a Kind whose files in the home of a node can be verified while no node runs.
type Verifier interface {
	Kind

	// Verify reads everything of the kind in the home that a start would read, and changes nothing.
	// s is the state to which the home's log leads; it is the zero State if no chain has started.
	// If a start would fail, Verify returns an error of a Class, which names the file.
	Verify(ctx context.Context, h Home, s chain.State) error
}

var registry struct {
	mu    sync.Mutex
	kinds []Kind
}

// Register registers kinds by name. The first registered kind is the default of the configuration.
// A kind replaces a kind that was registered before with the same name.
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

// Kinds returns the registered kinds, the default first.
func Kinds() []Kind {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	return slices.Clone(registry.kinds)
}

// Lookup returns the registered kind with the given name.
func Lookup(name string) (k Kind, ok bool) {
	kinds := Kinds()
	i := slices.IndexFunc(kinds, named(name))
	if i < 0 {
		return nil, false
	}
	return kinds[i], true
}

func named(name string) func(Kind) bool { return func(k Kind) bool { return k.Name() == name } }

// Classify returns the class of err by the first registered kind that has one for it, or None.
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
