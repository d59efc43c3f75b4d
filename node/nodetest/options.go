package nodetest

import (
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/plan"
)

// Option changes how Start runs a node.
type Option func(*options)

type options struct {
	home    string
	onDisk  bool
	profile plan.Profile
	keep    int
	seed    uint64
	node    []node.Option
	config  []func(*config.Config)
	genesis []func(*chain.Genesis)
}

// With runs every life of the node with the given options of package node: WithBackend, WithEngine,
// WithLogger and so on.
func With(opts ...node.Option) Option {
	return func(o *options) { o.node = append(o.node, opts...) }
}

// OnDisk keeps the log and the state, too, on the operating system's disk, in a directory of the
// test. Such a node can be stopped, verified and opened by other programs; it cannot Crash.
func OnDisk() Option { return func(o *options) { o.onDisk = true } }

// Home runs the node of an existing home on the operating system's disk.
func Home(dir string) Option { return func(o *options) { o.home, o.onDisk = dir, true } }

// Profile chooses the restart limits of the tree. The default is plan.Default, as shipped;
// plan.Chaos tolerates any number of kills.
func Profile(p plan.Profile) Option { return func(o *options) { o.profile = p } }

// Config edits the configuration in every life.
func Config(edit func(*config.Config)) Option {
	return func(o *options) { o.config = append(o.config, edit) }
}

// Genesis edits the chain's genesis, in a home that Start makes.
func Genesis(edit func(*chain.Genesis)) Option {
	return func(o *options) { o.genesis = append(o.genesis, edit) }
}

// KeepUnsynced sets the percentage of unsynced data that survives a Crash (0 by default), and the
// seed of the choice.
func KeepUnsynced(percent int, seed uint64) Option {
	return func(o *options) { o.keep, o.seed = percent, seed }
}
