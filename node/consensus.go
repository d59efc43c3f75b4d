package node

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
)

// WithConsensus makes k the node's kind of consensus, for a kind that a program sets up for one node.
// A kind of the same name must be registered, too: the configuration, the classes of errors and the
// commands for stopped homes go by that.
func WithConsensus(k consensus.Kind) Option { return func(n *Node) { n.kind = k } }

// WithDriver makes d the consensus engine, whatever the kind of consensus is.
func WithDriver(d consensus.Driver) Option { return func(n *Node) { n.driver = d } }

// openConsensus plans the tree, and makes the driver unless the program brings one.
func (n *Node) openConsensus(g chain.Genesis) error {
	if n.kind == nil {
		n.kind, _ = consensus.Lookup(n.config.Consensus.Kind) // which the configuration was checked for
	}

	n.traits = n.kind.Traits()
	if n.driver != nil {
		n.plan = planOf(n.config.Profile, consensus.Traits{}, n.extra)
		return nil
	}

	if n.traits.StateSync {
		n.sync = newStateSync(n)
	}

	n.plan = planOf(n.config.Profile, n.traits, n.extra)
	if err := refuseClaimed(n.home, n.kind); err != nil {
		return err
	}
	if err := addBackends(n.home, n.backends, n.kind); err != nil {
		return err
	}

	h := n.config.consensusHome(n.home, g)
	h.Intensity = n.plan.find("coppice/node/engines/consensus").Intensity
	h.Version, h.Log, h.Now = n.version, n.log, n.now

	var err error
	if n.driver, err = n.kind.Open(h); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return nil
}

// consensusHome is a home as its configuration describes it to a kind of consensus.
func (c Config) consensusHome(dir string, g chain.Genesis) consensus.Home {
	return consensus.Home{
		Dir: dir, Genesis: g, EmptyEvery: time.Duration(c.Consensus.EmptyEvery), MaxTxs: c.Consensus.MaxTxs,
		RetainBlocks: uint64(c.Consensus.RetainBlocks),
	}
}

// refuseClaimed refuses a home that is another kind's than k.
func refuseClaimed(home string, k consensus.Kind) error {
	for _, other := range consensus.Kinds() {
		h, ok := other.(consensus.Homed)
		if !ok || other.Name() == k.Name() {
			continue
		}
		if err := h.Claim(home); err != nil {
			return fmt.Errorf("%w: consensus.kind = %q, and %w", ErrConfig, k.Name(), err)
		}
	}
	return nil
}

// addBackends adds the backends that a home's chain has by its kind of consensus, one of kinds.
func addBackends(home string, backends map[string]chain.Backend, kinds ...consensus.Kind) error {
	for _, k := range kinds {
		h, ok := k.(consensus.Homed)
		if !ok || h.Claim(home) == nil {
			continue
		}

		g, err := ReadGenesis(home)
		if err != nil {
			return err
		}
		theirs, err := h.Backends(home, g)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrConfig, err)
		}

		for _, b := range theirs {
			backends[b.Name()] = b
		}
	}
	return nil
}

// traitsOf returns the traits of the kind of consensus that the configuration in a directory names.
// The code that uses the configuration reports an invalid one.
func traitsOf(dir string) consensus.Traits {
	c, err := Load(dir)
	if err != nil {
		return consensus.Traits{}
	}
	k, ok := consensus.Lookup(c.Consensus.Kind)
	if !ok {
		return consensus.Traits{}
	}
	return k.Traits()
}

// kindNames returns the names of the registered kinds of consensus, the default one first.
func kindNames() (names []string) {
	for _, k := range consensus.Kinds() {
		names = append(names, k.Name())
	}
	return names
}

// defaultKind returns the name of the default kind of consensus; empty if none is registered.
func defaultKind() string {
	if names := kindNames(); len(names) > 0 {
		return names[0]
	}
	return ""
}

// kindDocs describes the registered kinds of consensus in one sentence.
func kindDocs() string {
	var docs []string
	for _, k := range consensus.Kinds() {
		docs = append(docs, k.Traits().Doc)
	}
	return strings.Join(docs, "; ") + "."
}

// checkKind refuses the configuration of a program that has registered no kind of consensus.
func checkKind(Config) error {
	if len(consensus.Kinds()) == 0 {
		return errors.New("the program has registered no kind of consensus (consensus.Register)")
	}
	return nil
}

// Plan returns the tree of a node with this configuration, whose kind of consensus must be
// registered, without engines of the user's.
func (c Config) Plan() Place {
	k, _ := consensus.Lookup(c.Consensus.Kind)
	return planOf(c.Profile, k.Traits(), nil)
}

// planOf is the tree of a node with engines of the user's.
func planOf(profile Profile, t consensus.Traits, extra []Engine) Place {
	ids := ShippedEngines()
	if t.StateSync {
		ids = append(ids, engineStateSync)
	}
	for _, e := range extra {
		ids = append(ids, e.ID)
	}

	return Plan(profile, ids).withConsensus(profile, t.Part)
}
