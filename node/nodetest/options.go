package nodetest

import (
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
	genesis []func(*node.Genesis)
}

// With runs every life of the node with the node's own options: WithBackend, WithEngine, WithLogger
// and so on.
func With(opts ...node.Option) Option {
	return func(o *options) { o.node = append(o.node, opts...) }
}

// OnDisk keeps the log and the state on the operating system's disk too, in a directory of the
// test's. Such a node can be stopped, verified and opened by others; it cannot Crash.
func OnDisk() Option { return func(o *options) { o.onDisk = true } }

// Home runs the node of a home that is there already, on the operating system's disk.
func Home(dir string) Option { return func(o *options) { o.home, o.onDisk = dir, true } }

// Profile chooses the limits of the tree. The default is node.Default, what is shipped; node.Chaos
// bears kills without end.
func Profile(p plan.Profile) Option { return func(o *options) { o.profile = p } }

// Config edits the configuration of every life.
func Config(edit func(*config.Config)) Option {
	return func(o *options) { o.config = append(o.config, edit) }
}

// Genesis edits the genesis of the chain, of a home that Start makes.
func Genesis(edit func(*node.Genesis)) Option {
	return func(o *options) { o.genesis = append(o.genesis, edit) }
}

// KeepUnsynced says how much of what was not synced survives a Crash, in per cent (0 by default),
// and the seed of the choice.
func KeepUnsynced(percent int, seed uint64) Option {
	return func(o *options) { o.keep, o.seed = percent, seed }
}
