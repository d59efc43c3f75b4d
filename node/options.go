package node

import (
	"crypto/ed25519"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/agentlog"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/gate"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/host"
	"github.com/coppice-go/coppice/node/progress"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// settings are what a node gets from the program and from its home before it opens.
type settings struct {
	home        string
	config      config.Config
	genesis     *logv1.ChainStarted
	tokens      *home.Tokens
	version     string
	diagnostics *zap.Logger
	level       *zap.AtomicLevel // of diagnostics; nil: it cannot be changed

	backends  map[string]chain.Backend
	extra     []Engine
	factories []streams.Factory // of the kinds of sinks
	sinks     gate.Sinks        // nil: there are none
	without   []string          // sinks that this run leaves out
	observers []supervisor.Observer
	agent     rounds.Agent       // empty: the node has none
	agentKey  ed25519.PrivateKey // of the agent
	service   *roundsHealth      // nil: there is no service of rounds
	agentLog  *agentlog.Log      // nil: there is none
	kind      consensus.Kind
	driver    consensus.Driver // that of kind, unless the program brings one

	logDisk   eventlog.FS // nil: the operating system's
	stateDisk vfs.FS      // nil: the operating system's

	bounds      host.Bounds
	retainEvery time.Duration // between two rounds of retention
	now         func() time.Time
}

// Engine is an engine of the user. It runs under "engines" in the tree.
type Engine struct {
	ID string

	// Start returns the function that starts an incarnation. The directory resolves the addresses
	// of the node's engines in this run of the node.
	Start func(dir engines.Directory) supervisor.StartFunc
}

// Option changes what New makes.
type Option func(*Node)

// WithBackend adds a transaction backend. It replaces a shipped backend of the same name.
func WithBackend(b chain.Backend) Option { return func(n *Node) { n.backends[b.Name()] = b } }

// WithEngine adds an engine under "engines".
func WithEngine(e Engine) Option { return func(n *Node) { n.extra = append(n.extra, e) } }

// WithSink adds a kind of sink. The definitions in HOME/streams name it. It replaces a kind of the
// same name.
func WithSink(f streams.Factory) Option {
	return func(n *Node) {
		n.factories = slices.DeleteFunc(n.factories, func(o streams.Factory) bool { return o.Kind == f.Kind })
		n.factories = append(n.factories, f)
	}
}

// WithLogger sends diagnostics to l. They are not the event log.
func WithLogger(l *zap.Logger) Option { return func(n *Node) { n.diagnostics = l } }

// WithLevel names the level of the logger that WithLogger gives, so that an operator may change it
// while the node runs.
func WithLevel(l zap.AtomicLevel) Option { return func(n *Node) { n.level = &l } }

// WithObserver makes o an observer of the node's tree, in addition to the node's own observers.
func WithObserver(o supervisor.Observer) Option {
	return func(n *Node) { n.observers = append(n.observers, o) }
}

// WithDisk keeps the event log and the state on the given disks instead of the operating system's.
// It is for tests whose disks crash and fail. The other files of the home stay where they are.
func WithDisk(log eventlog.FS, state vfs.FS) Option {
	return func(n *Node) { n.logDisk, n.stateDisk = log, state }
}

// WithoutSink leaves sinks out of this run: no gate waits for them. New returns exit.ErrConfig for
// a sink that does not exist.
func WithoutSink(names ...string) Option {
	return func(n *Node) { n.without = append(n.without, names...) }
}

// WithVersion sets the version that status shows.
func WithVersion(v string) Option { return func(n *Node) { n.version = v } }

// WithProgress makes the node call f every two seconds while a step of the start takes long, and
// once when such a step ends, so that a service manager's timeout can be extended. f must not wait.
func WithProgress(f func(progress.Step)) Option {
	return func(n *Node) { n.progress.Observers = append(n.progress.Observers, f) }
}
