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
