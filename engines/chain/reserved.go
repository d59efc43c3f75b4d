package chain

import (
	"errors"
	"strings"
)

// Keys that begin with ReservedPrefix are the node's own: GovernanceBackend may write them, every
// backend may read them.
const (
	ReservedPrefix    = "\x00coppice/"
	GovernanceBackend = "governance"
)

// ErrReservedKey is a limit that a view enforces, as those beside it.
var ErrReservedKey = errors.New("limit: the key is reserved")

// MayWrite reports whether transactions of a backend may write key.
func MayWrite(backend string, key []byte) bool {
	return backend == GovernanceBackend || !strings.HasPrefix(string(key), ReservedPrefix)
}
