package chain

import (
	"errors"
	"strings"
)

// Keys that begin with ReservedPrefix are the node's own. Those that begin with RoundsPrefix only
// the backend RoundsBackend may write, and the others only the backend GovernanceBackend. Both may
// write ResetKey and PruneKey, because both decide on resets. Every backend may read all of them.
const (
	ReservedPrefix    = "\x00coppice/"
	GovernanceBackend = "governance"

	RoundsPrefix  = ReservedPrefix + "rounds/"
	RoundsBackend = "rounds"
)

// ErrReservedKey is the error of a view for a write to a reserved key by another backend. Like the
// other errors of limits, such as ErrTooManyOps, it makes the transaction fail.
var ErrReservedKey = errors.New("limit: the key is reserved")

// MayWrite reports whether transactions and hooks of the named backend may write key.
func MayWrite(backend string, key []byte) bool {
	switch k := string(key); {
	case k == ResetKey, k == PruneKey:
		return backend == GovernanceBackend || backend == RoundsBackend
	case strings.HasPrefix(k, RoundsPrefix):
		return backend == RoundsBackend
	case strings.HasPrefix(k, ReservedPrefix):
		return backend == GovernanceBackend
	default:
		return true
	}
}
