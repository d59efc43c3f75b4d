package solo

import (
	"github.com/coppice-go/coppice/engines/backend/governance"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
)

// Name is the name of the Kind.
const Name = "solo"

// Kind is consensus with oneself, for a node without peers. It keeps no files in a home.
type Kind struct{}

var _ consensus.BackendKind = Kind{}

// Name returns "solo".
func (Kind) Name() string { return Name }

// Traits returns the kind's traits.
func (Kind) Traits() consensus.Traits {
	return consensus.Traits{Doc: "solo is a chain of one node", Alone: true}
}

// Open returns the driver of a node with home h.
func (Kind) Open(h consensus.Home) (consensus.Driver, error) {
	return Solo{MaxTxs: h.MaxTxs, EmptyEvery: h.EmptyEvery, Now: h.Now}, nil
}

// Backends returns the governance backend if the genesis allows resets. There are no validators
// that it could change.
func (Kind) Backends(_ string, g chain.Genesis) ([]chain.Backend, error) {
	if g.Resets == nil {
		return nil, nil
	}
	return []chain.Backend{governance.New(g.GovernanceKey, g.ChainID, nil).For(g.Resets)}, nil
}
