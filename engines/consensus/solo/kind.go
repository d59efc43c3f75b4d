package solo

import (
	"github.com/coppice-go/coppice/engines/consensus"
)

// Name is the name of the Kind.
const Name = "solo"

// Kind is consensus with oneself, for a node without peers. It keeps no files in a home.
type Kind struct{}

// Name returns "solo".
func (Kind) Name() string { return Name }

// Traits returns the kind's traits.
func (Kind) Traits() consensus.Traits {
	return consensus.Traits{Doc: "solo is a chain of one node"}
}

// Open returns the driver of a node with home h.
func (Kind) Open(h consensus.Home) (consensus.Driver, error) {
	return Solo{MaxTxs: h.MaxTxs, EmptyEvery: h.EmptyEvery, Now: h.Now}, nil
}
