package chain

import (
	"maps"
	"slices"
)

// BlockBackend is a Backend that also acts at the end of every block. All nodes of a chain have it
// from the first block on, whether or not a transaction has used it.
type BlockBackend interface {
	Backend

	// EndBlock is the hook. It runs after the last transaction of every block, also of an empty
	// one, at the index that follows the last transaction's. It must be deterministic, as Execute
	// must, and depends on nothing but the view and b. A block for which it writes nothing leaves
	// the state as it is. In a block in hold (State.InHold) no hook runs.
	//
	// If it returns an error or panics, its writes are discarded, and BlockCommitted names the
	// backend, the same on every node. The block and the other hooks go on. An error that is a
	// Reported is named, too, and the writes are kept.
	EndBlock(v View, b Block) error
}

// Reported is an error of a hook that has dealt with a failure, and whose writes stand.
type Reported struct{ Err error }

func (r Reported) Error() string { return r.Err.Error() }

// Unwrap returns the failure.
func (r Reported) Unwrap() error { return r.Err }

// MaxHookBytes bounds the writes of all hooks of a block together. It is beside MaxOutcomeBytes, so
// that no number of transactions can stop a hook. Changes count as they do there. A hook whose
// changes do not fit fails with Code_CODE_LIMIT and writes nothing. The other limits of
// transactions (operations, steps) do not hold for hooks.
const MaxHookBytes = 4 << 20

// BlockBackends returns those of the backends that have a hook, in the order in which the hooks
// run: by name.
func BlockBackends(backends map[string]Backend) (hooks []BlockBackend) {
	for _, name := range slices.Sorted(maps.Keys(backends)) {
		if b, ok := backends[name].(BlockBackend); ok {
			hooks = append(hooks, b)
		}
	}
	return hooks
}

// HookVersion returns the place of the hooks of a block.
func (b Block) HookVersion() Version {
	return Version{Period: b.Period, Height: b.Height, Index: uint32(len(b.Txs))}
}
