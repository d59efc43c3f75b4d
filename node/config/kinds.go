package config

import (
	"errors"
	"strings"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/node/plan"
)

// ConsensusHome returns the description of the home in dir that a kind of consensus gets.
func (c Config) ConsensusHome(dir string, g chain.Genesis) consensus.Home {
	return consensus.Home{
		Dir: dir, Genesis: g, EmptyEvery: time.Duration(c.Consensus.EmptyEvery), MaxTxs: c.Consensus.MaxTxs,
		RetainBlocks: uint64(c.Consensus.RetainBlocks), MemoryShare: c.Consensus.MemoryShare,
		Manager: consensus.Manager{Listen: c.Manager.Listen, AllowUnauthenticated: c.Manager.AllowUnauthenticated},
		Peers:   c.Peers(),
	}
}

// Plan returns the planned tree of a node with this configuration, without the user's engines. The
// configured kind of consensus must be registered.
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

// checkKind returns an error if the program has registered no kind of consensus. No configuration
// is valid then.
func checkKind(Config) error {
	if len(consensus.Kinds()) == 0 {
		return errors.New("this program has registered no kind of consensus (consensus.Register)")
	}
	return nil
}
