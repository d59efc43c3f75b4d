package chain

// Bounded is a Backend that bounds how many transactions of one sender may wait in the pool of a
// node, and in the mempool of its driver, and how many a proposer takes into a block. A submission
// beyond the bound is refused with ErrPoolFull. The bounds are no rule of the chain: blocks may
// have more.
type Bounded interface {
	Backend

	// Sender returns the sender that a body names, and its bounds. An empty sender has none. Check
	// may not have seen the body, so the sender is only claimed. Sender reads no state, and is
	// cheap beside Check: a sender at its bound is refused without a Check.
	Sender(body []byte) (sender string, most Bounds)
}

// Bounds is how many transactions one sender may have.
type Bounds struct {
	Waiting int // in a pool or a mempool
	Block   int // in a block that this node proposes
}
