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

// With adds options of package node to every life of the node: WithBackend, WithEngine, WithLogger
// and so on.
func With(opts ...node.Option) Option {
	return func(o *options) { o.node = append(o.node, opts...) }
}

// OnDisk keeps the log and the state on the operating system's disk, in a directory of the test,
// instead of in memory. Such a node can be stopped, verified and opened by other programs; it
// cannot Crash.
func OnDisk() Option { return func(o *options) { o.onDisk = true } }

// Home runs the node of an existing home on the operating system's disk.
func Home(dir string) Option { return func(o *options) { o.home, o.onDisk = dir, true } }

// Profile chooses the restart limits of the tree. The default is plan.Default, as shipped;
// plan.Chaos tolerates any number of kills.
func Profile(p plan.Profile) Option { return func(o *options) { o.profile = p } }

// Config calls edit with the configuration of every life, before the node opens.
func Config(edit func(*config.Config)) Option {
	return func(o *options) { o.config = append(o.config, edit) }
}

// Genesis calls edit with the genesis of a home that Start makes.
func Genesis(edit func(*chain.Genesis)) Option {
	return func(o *options) { o.genesis = append(o.genesis, edit) }
}

// KeepUnsynced sets the percentage of unsynced data that survives a Crash (0 by default). seed
// decides which data that is.
func KeepUnsynced(percent int, seed uint64) Option {
	return func(o *options) { o.keep, o.seed = percent, seed }
}
