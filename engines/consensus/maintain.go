package consensus

import (
	"context"

	"github.com/coppice-go/coppice/engines/chain"
)

// Maintainer is a Kind whose files in the home of a node can be made smaller while no node runs.
// Both methods are called only on a home that Verify accepts. Each may be interrupted at any
// instant, by ctx or by the death of the process: the home is then one that Verify accepts and that
// starts, and the next call completes the work.
type Maintainer interface {
	Kind

	// Prune removes the blocks below the lowest height that must stay, and what belongs to them.
	Prune(ctx context.Context, h Home, o PruneOptions) (Pruned, error)

	// Compact rewrites the kind's databases without the entries that were removed.
	Compact(ctx context.Context, h Home, progress func(step string, done, total uint64)) ([]Size, error)
}

// Hold is a reason to keep something: everything from First on stays because of Name.
type Hold struct {
	Name  string
	First uint64
}

// PruneOptions say how much a Maintainer may remove.
type PruneOptions struct {
	State chain.State // the state to which the home's log leads

	// Holds are the reasons of the node and of its operator to keep blocks. The kind adds its own.
	// There is at least one.
	Holds []Hold

	DryRun   bool // nothing is removed
	Progress func(step string, done, total uint64)
}

// Pruned describes the blocks of a home before and after Prune.
type Pruned struct {
	First, Last uint64 // the lowest and the highest height before; 0: there is no block
	Kept        uint64 // the lowest height that stays

	// Evidence is the lowest height below Kept whose header, commit and validators stay, because
	// they are needed to judge evidence; 0 if there is none.
	Evidence uint64

	Holds []Hold
	Sizes []Size // of the databases that have blocks, or what belongs to blocks
}

// Size is how many bytes files take on the disk, before and after something was done to them.
type Size struct {
	Name          string
	Before, After int64
}
