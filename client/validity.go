package client

import (
	"context"
	"errors"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// NewTx is chain.NewTx, except that the validity counts from the later of this machine's clock and
// the time of the last block that this client has seen in a Status. Block time decides whether a
// transaction is still valid. It can be far ahead of the clock, after blocks that were made under a
// wrong clock, and then a validity counted from the clock would have ended already. Counting from
// the later one is safe: the transaction ends when block time passes it.
func (c *Client) NewTx(backend string, body []byte, validFor time.Duration) chain.Tx {
	tx := chain.NewTx(backend, body, validFor)
	if block := time.Unix(0, c.blockTime.Load()); block.After(time.Now()) {
		tx.ValidUntil = block.Add(validFor).Truncate(time.Millisecond)
	}
	return tx
}

// SubmitNew makes a transaction with NewTx and submits it, like Submit, or SubmitWait if wait is
// set. If the node refuses it as expired, because block time is ahead of this machine's clock,
// SubmitNew submits one that counts from block time instead. The refused one has no effect.
func (c *Client) SubmitNew(ctx context.Context, backend string, body []byte, validFor time.Duration,
	wait bool) (Outcome, error) {
	o, err := c.submitOne(ctx, c.NewTx(backend, body, validFor), wait)

	refused := new(RefusedError)
	if !errors.As(err, &refused) || refused.Code != apiv1.RefusedCode_REFUSED_CODE_EXPIRED ||
		errors.Is(err, ErrUnknown) {
		return o, err
	}

	if _, lost := c.Status(ctx); lost != nil || !time.Unix(0, c.blockTime.Load()).After(time.Now()) {
		return o, err // another try would be refused too
	}

	return c.submitOne(ctx, c.NewTx(backend, body, validFor), wait)
}

// noteBlockTime keeps the latest block time of a status.
func (c *Client) noteBlockTime(s *apiv1.StatusResponse) {
	if s.GetBlockTime() == nil {
		return
	}

	at := s.BlockTime.AsTime().UnixNano()
	for {
		was := c.blockTime.Load()
		if at <= was || c.blockTime.CompareAndSwap(was, at) {
			return
		}
	}
}
