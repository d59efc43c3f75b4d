package consensus

import (
	"context"
	"io"
)

// Inspected is a Driver that can describe its consensus in detail, for a report about a node in
// trouble.
type Inspected interface {
	Driver

	// Inspections returns the parts of that description.
	Inspections() []Inspection
}

// Inspection is a part of the description of a consensus.
type Inspection struct {
	Name string // a file name, such as "cometbft-status.json"

	// Write writes the part as it is now. It works while the driver runs and while it does not,
	// waits for no engine, and returns when ctx ends. It writes no keys.
	Write func(ctx context.Context, w io.Writer) error
}

// Networked is a Driver that knows the nodes that its consensus is connected to.
type Networked interface {
	Driver

	// Network returns the network as it is now. It waits for no engine, and returns when ctx ends.
	Network(ctx context.Context) (Network, error)
}

// Network is what a consensus knows of its network.
type Network struct {
	Peers []NetworkPeer // that are connected
	Round string        // "height/round/step"; empty: unknown
}

// NetworkPeer is another node that is connected.
type NetworkPeer struct {
	ID, Name, Address string
	Outbound          bool // this node has made the connection
}
