package chain

// Bounded is a Backend that bounds how many transactions of one sender may wait in the pool of a
// node. A submission beyond the bound is refused with ErrPoolFull. The bound is no rule of the
// chain: blocks may have more.
type Bounded interface {
	Backend

	// Sender returns the sender of a body that Check accepts, and how many of its transactions may
	// wait. An empty sender has no bound. It reads no state.
	Sender(body []byte) (sender string, most int)
}
