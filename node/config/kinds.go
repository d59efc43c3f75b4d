package config

import (
	"errors"
	"strings"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/node/plan"
)

// ConsensusHome returns a home as its configuration describes it to a kind of consensus.
func (c Config) ConsensusHome(dir string, g chain.Genesis) consensus.Home {
	return consensus.Home{
		Dir: dir, Genesis: g, EmptyEvery: time.Duration(c.Consensus.EmptyEvery), MaxTxs: c.Consensus.MaxTxs,
		RetainBlocks: uint64(c.Consensus.RetainBlocks),
	}
}

// Plan returns the tree of a node with this configuration, whose kind of consensus must be
// registered, without the user's engines.
func (c Config) Plan() plan.Place {
	k, _ := consensus.Lookup(c.Consensus.Kind)
	return plan.Of(c.Profile, k.Traits())
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

// checkKind refuses any configuration if the program has registered no kind of consensus.
func checkKind(Config) error {
	if len(consensus.Kinds()) == 0 {
		return errors.New("this program has registered no kind of consensus (consensus.Register)")
	}
	return nil
}
