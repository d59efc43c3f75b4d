package node

import (
	"fmt"
	"path/filepath"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/plan"
	"github.com/coppice-go/coppice/node/statesync"
)

// WithConsensus makes k the node's kind of consensus. It is for a kind that a program sets up for
// one node. A kind of the same name must be registered as well, because the configuration, the
// classes of errors and the commands for stopped homes use the registered one.
func WithConsensus(k consensus.Kind) Option { return func(n *Node) { n.kind = k } }

// WithDriver makes d the consensus engine, whatever kind of consensus the configuration names.
func WithDriver(d consensus.Driver) Option { return func(n *Node) { n.driver = d } }

// openConsensus plans the tree, and makes the driver and the state sync. If the program has brought
// a driver, it makes neither.
func (n *Node) openConsensus(g chain.Genesis) error {
	if n.kind == nil {
		n.kind, _ = consensus.Lookup(n.config.Consensus.Kind) // it is registered: the configuration is valid
	}

	n.traits = n.kind.Traits()
	n.openSnapshots()

	if n.driver != nil {
		n.plan = n.withStreams(plan.Of(n.config.Profile, consensus.Traits{}, n.extraIDs()...))
		return nil
	}

	n.alone = n.traits.Alone
	if n.traits.StateSync {
		n.stateSync = statesync.New(statesync.Options{
			Home: n.home, Disk: n.disk(), Config: n.config.StateSync, Version: n.version,
			Diagnostics: n.diagnostics, Now: n.now, Directory: n.runDirectory, Supervised: n.supervised.Load,
			Snapshots: n.snaps, Installs: &n.installs, Die: n.die, Genesis: n.genesis,
		})
	}

	n.plan = n.withStreams(plan.Of(n.config.Profile, n.traits, n.extraIDs()...))

	if err := home.CheckKind(n.home, n.kind); err != nil {
		return err
	}
	if err := home.AddBackends(n.home, n.backends, n.kind); err != nil {
		return err
	}

	h := n.config.ConsensusHome(n.home, g)
	h.Changed = n.processChanged
	h.Intensity = n.plan.Find(plan.PathConsensus).Intensity
	h.Manager.TokenFile = filepath.Join(n.home, api.TokenFileName)
	if n.service != nil && n.service.pause != nil {
		h.Pause = *n.service.pause
	}
	h.Version, h.Log, h.Now = n.version, n.diagnostics, n.now

	var err error
	if n.driver, err = n.kind.Open(h); err != nil {
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	return nil
}

// copier returns the driver, if a backup needs files of its consensus, or nil.
func (n *Node) copier() (consensus.Copier, error) {
	if c, ok := n.driver.(consensus.Copier); ok {
		return c, nil
	}
	return nil, home.CheckNoFiles(n.home, n.kind)
}

// extraIDs returns the ids of the user's engines.
func (n *Node) extraIDs() (ids []string) {
	for _, e := range n.extra {
		ids = append(ids, e.ID)
	}

	return ids
}
