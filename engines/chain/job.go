package chain

import logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"

// Job is one transaction that a worker executes.
type Job struct {
	ID      TxID
	Tx      Tx
	Backend Backend // nil: this chain has no backend of the name Tx.Backend
	Params  *logv1.Params

	// Prepared is what PrepareTx has returned for Tx and Backend in this process; nil if that is
	// not known, and for a Backend that is no Preparer.
	Prepared any

	// Place delivers the transaction's place, once, and has room for it. If it is closed without a
	// place, the job is withdrawn.
	Place chan Placement

	// Handed, if set, is called when the worker has handed in the result. The end of Serve is no
	// reliable sign of it: backend code that ends its goroutine ends the worker with it.
	Handed func()

	// Late keeps the worker from executing anything before it has its place.
	Late bool
}
