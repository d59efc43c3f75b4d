package chain

// Preparer is a Backend that understands a body once. A node that has checked a transaction at its
// submission keeps what Prepare has returned, within bounds, and executes the transaction with it.
// Other backends decode the body at each Check and each Execute.
type Preparer interface {
	Backend

	// Prepare returns the error of Check, or else what ExecutePrepared needs of the body, which is
	// not nil. It may share the body's memory, which nobody changes.
	Prepare(body []byte) (prepared any, err error)

	// ExecutePrepared does what Execute does with the body that prepared was made from. It may run
	// several times, also at once, with the same prepared, and does not change it.
	ExecutePrepared(v View, prepared any) (data []byte, err error)
}

// PrepareTx is CheckTx. If b is a Preparer it also returns what b has prepared; otherwise it
// returns nil.
func PrepareTx(b Backend, tx Tx) (prepared any, err error) {
	p, ok := b.(Preparer)
	if !ok {
		return nil, CheckTx(b, tx)
	}
	if prepared, err = p.Prepare(tx.Body); err != nil {
		return nil, err
	}
	return prepared, CheckSeal(b, tx)
}

// ExecuteTx executes a body with what PrepareTx has returned for it.
func ExecuteTx(b Backend, v View, body []byte, prepared any) (data []byte, err error) {
	if p, ok := b.(Preparer); ok && prepared != nil {
		return p.ExecutePrepared(v, prepared)
	}
	return b.Execute(v, body)
}
