package chain

import "time"

// Deferred is a Backend with transactions that have no place in a block before a time. A pool and a
// proposer leave such a transaction out until then, and validators refuse a proposal with it.
type Deferred interface {
	Backend

	// NotBefore returns the time that the time of a block must have passed; ok is false for a body
	// that may stand in any block. It reads no state.
	NotBefore(body []byte) (t time.Time, ok bool)
}
