package chain

import (
	"time"

	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Submitted is the answer to one submission. Without an Err, the transaction is in the event log.
// An Err wraps ErrMalformedTx or one of the refusals beside it.
type Submitted struct {
	ID  TxID
	Err error
}

// Ending is what is known of a transaction. At most one of Result and Expired is set; Known with
// neither means that it is durable and has not ended.
type Ending struct {
	ID      TxID
	Known   bool
	Result  *logv1.TxResult
	Expired *time.Time // the block time that passed its valid_until
}
