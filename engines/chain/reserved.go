package chain

import (
	"errors"
	"strings"
)

// Keys that begin with ReservedPrefix are the node's own. Only the backend GovernanceBackend may
// write them; every backend may read them.
const (
	ReservedPrefix    = "\x00coppice/"
	GovernanceBackend = "governance"
)

// ErrReservedKey is the error of a view for a write to a reserved key by another backend. Like the
// other errors of limits, such as ErrTooManyOps, it makes the transaction fail.
var ErrReservedKey = errors.New("limit: the key is reserved")

// MayWrite reports whether transactions of the named backend may write key.
func MayWrite(backend string, key []byte) bool {
	return backend == GovernanceBackend || !strings.HasPrefix(string(key), ReservedPrefix)
}
