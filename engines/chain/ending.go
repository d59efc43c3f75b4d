package chain

import (
	"time"

	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Submitted is the answer to one submission. If Err is nil, the transaction is in the event log.
// Otherwise Err wraps ErrMalformedTx or one of the errors with which the pool refuses a submission,
// such as ErrUnknownBackend.
type Submitted struct {
	ID  TxID
	Err error
}

// Ending says how a transaction ended, as far as the node knows. At most one of Result and Expired
// is set. If Known is set and neither of them is, the transaction is durable and has not ended.
type Ending struct {
	ID      TxID
	Known   bool
	Result  *logv1.TxResult
	Expired *time.Time // the block time that passed its valid_until
}
