package chain

// Sealed is a Backend whose bodies vouch for the transaction around them. Without it, anybody can
// put the signed body of another into transactions with other nonces or times, each with an id of
// its own.
type Sealed interface {
	Backend

	// CheckSeal returns an error if the transaction is not the one that its body was made for. The
	// body need not have passed Check. CheckSeal reads no state, and is cheap beside Check.
	CheckSeal(tx Tx) error
}

// CheckTx returns the error of b's Check for a transaction's body, and of its CheckSeal if it is
// Sealed. Pools and workers call it, so that a block refuses what a pool refuses.
func CheckTx(b Backend, tx Tx) error {
	if err := b.Check(tx.Body); err != nil {
		return err
	}
	return CheckSeal(b, tx)
}

// CheckSeal returns the error of b's CheckSeal for a transaction, if b is Sealed.
func CheckSeal(b Backend, tx Tx) error {
	if s, ok := b.(Sealed); ok {
		return s.CheckSeal(tx)
	}
	return nil
}
