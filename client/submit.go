package client

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/coppice-go/coppice/engines/chain"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// maxBatch and maxBatchBytes are the most transactions, and bytes of them, that one request
// carries. SubmitMany splits larger submissions.
const (
	maxBatch      = 10_000
	maxBatchBytes = 32 << 20
)

// Outcome describes what became of one transaction. Exactly one of three cases holds: Err is set (a
// *RefusedError, ErrExpired or ErrUnknown); or Result is set; or neither is set, and the
// transaction is accepted and durable but has no result yet. Known means that the node had the
// transaction when it last answered.
type Outcome struct {
	chain.Ending
	Err error
}

// Submit makes a transaction durable on the node and returns its id. It tries again, with the same
// id, until the node answers or ctx ends. If ctx ends first, the error is ErrUnknown. If the node
// refuses the transaction, the error is a *RefusedError.
func (c *Client) Submit(ctx context.Context, tx chain.Tx) (chain.TxID, error) {
	o, err := c.submitOne(ctx, tx, false)
	return o.ID, err
}

// SubmitWait is Submit, but also waits for the result. A result whose Code is not CODE_OK is a
// result, not an error: the transaction was ordered, and failed in the same way on every node. If
// ctx ends after the node accepted the transaction, the error is ErrPending; ask for the result
// later with Tx.
func (c *Client) SubmitWait(ctx context.Context, tx chain.Tx) (*logv1.TxResult, error) {
	o, err := c.submitOne(ctx, tx, true)
	return o.Result, err
}

func (c *Client) submitOne(ctx context.Context, tx chain.Tx, wait bool) (Outcome, error) {
	encoded, err := tx.Encode()
	if err != nil {
		return Outcome{}, err
	}

	outs, err := c.SubmitMany(ctx, [][]byte{encoded}, wait)
	switch {
	case outs[0].Err != nil:
		err = outs[0].Err
	case err != nil && outs[0].Result == nil:
		err = fmt.Errorf("%w: %s: %w", ErrPending, outs[0].ID, err)
	}

	return outs[0], err
}

// SubmitMany submits transactions, given as canonical bytes, in as few requests as their size
// allows, and returns one outcome for each, in the given order. If wait is set, it waits for all
// results. The error is that of ctx, or one that does not concern a single transaction. The
// outcomes are valid in any case; transactions without an answer are ErrUnknown.
func (c *Client) SubmitMany(ctx context.Context, txs [][]byte, wait bool) ([]Outcome, error) {
	s := submission{c: c, txs: txs, out: make([]Outcome, len(txs)), tried: make([]bool, len(txs))}
	open := make([]int, len(txs)) // indices of txs without a final answer

	for i, tx := range txs {
		s.out[i].ID = chain.HashTx(tx)
		open[i] = i
	}

	b := c.backoff()

	for {
		left, err := s.round(ctx, open, wait)
		if len(left) < len(open) {
			b = c.backoff() // the call makes progress
		}
		open = left
		if len(open) == 0 {
			return s.out, nil
		}
		if err != nil && ctx.Err() != nil {
			return s.out, s.giveUp(open, fmt.Errorf("%w; the last attempt: %w", context.Cause(ctx), err))
		}
		if err != nil && !lost(ctx, err) {
			return s.out, s.giveUp(open, err)
		}

		if ended := b.pause(ctx); ended != nil {
			if err != nil {
				ended = fmt.Errorf("%w; the last attempt: %w", ended, err)
			}
			return s.out, s.giveUp(open, ended)
		}
	}
}

// submission is the state of one SubmitMany. The slices are parallel.
type submission struct {
	c     *Client
	txs   [][]byte
	out   []Outcome
	tried []bool // an attempt was lost, so the node may have it
}

// round submits the open transactions once, in chunks, and returns those that are still open, and
// the last error.
func (s *submission) round(ctx context.Context, open []int, wait bool) (left []int, last error) {
	for len(open) > 0 {
		n, size := 0, 0
		for n < len(open) && n < maxBatch && (n == 0 || size+len(s.txs[open[n]]) <= maxBatchBytes) {
			size += len(s.txs[open[n]])
			n++
		}

		chunk := open[:n]
		open = open[n:]
		pending, err := s.send(ctx, chunk, wait)
		left = append(left, pending...)

		if err != nil {
			last = err
			if !lost(ctx, err) {
				return append(left, open...), err
			}
		}
	}
	return left, last
}

// send submits one chunk in one request, and returns the transactions that are still open.
func (s *submission) send(ctx context.Context, chunk []int, wait bool) (left []int, err error) {
	txs := make([][]byte, len(chunk))
	known := false
	for i, at := range chunk {
		txs[i] = s.txs[at]
		known = known || s.out[at].Known
	}

	var outs []*apiv1.TxOutcome
	if known || !small(txs) || soon(ctx) { // what the node has already may take long: it must not hold up others
		outs, err = s.c.submitOnce(ctx, txs, wait, s.c.attempt)
	} else {
		outs, err = s.c.joiner.submit(ctx, txs, wait)
	}

	if err != nil {
		for _, at := range chunk {
			s.tried[at] = s.tried[at] || reached(err)
		}
		return chunk, err
	}

	for i, at := range chunk {
		if !s.take(at, outs[i], wait) {
			left = append(left, at)
		}
	}

	return left, nil
}

// submitOnce submits transactions in one request. With wait, the node waits for results for at most
// the given time, or for a part of the time that ctx leaves.
func (c *Client) submitOnce(ctx context.Context, txs [][]byte, wait bool, most time.Duration) (
	[]*apiv1.TxOutcome, error) {
	req := &apiv1.SubmitRequest{Txs: txs, Wait: apiv1.Wait_WAIT_ACCEPTED}
	limit := c.attempt

	if wait {
		req.Wait, req.Timeout = apiv1.Wait_WAIT_RESULT, durationpb.New(patience(ctx, most))
		limit *= 2 // the node's wait, and the time to submit
	}

	res, err := once(ctx, c, limit, req, node(apiv1connect.NodeServiceClient.Submit))
	if err == nil && len(res.Outcomes) != len(txs) {
		err = connect.NewError(connect.CodeInternal, fmt.Errorf("%d outcomes of %d transactions", len(res.Outcomes),
			len(txs)))
	}
	if err != nil {
		return nil, err
	}

	return res.Outcomes, nil
}

// patience returns how long the node is to wait for results. The node must answer before ctx ends,
// or the caller would not learn that it accepted the transaction. The rest of the time is for the
// answer and for shorter attempts.
func patience(ctx context.Context, most time.Duration) time.Duration {
	until, ends := ctx.Deadline()
	if !ends {
		return most
	}
	return max(0, min(most, time.Until(until)*3/4))
}

// take stores an answer and reports whether it is final.
func (s *submission) take(at int, o *apiv1.TxOutcome, wait bool) bool {
	out := &s.out[at]
	switch {
	case o.GetResult() != nil:
		out.Known, out.Result = true, o.GetResult()

	case o.GetExpired() != nil:
		when := o.GetExpired().GetBlockTime().AsTime()
		out.Known, out.Expired = true, &when
		out.Err = fmt.Errorf("%w: %s, at block time %s", ErrExpired, out.ID.Short(), when.Format(time.RFC3339))

	case o.GetRefused() != nil:
		r := o.GetRefused()
		if r.Code == apiv1.RefusedCode_REFUSED_CODE_POOL_FULL {
			return false
		}

		out.Err = &RefusedError{ID: out.ID, Code: r.Code, Reason: r.Reason}

		if r.Code == apiv1.RefusedCode_REFUSED_CODE_EXPIRED && (s.tried[at] || out.Known) {
			// An earlier attempt may have been applied and its id forgotten since, because the node
			// keeps an id only until its transaction expires.
			out.Err = fmt.Errorf("%w: %w", ErrUnknown, out.Err)
		}

	default:
		out.Known = true
		return !wait
	}

	return true
}

// giveUp sets err as the error of the open transactions, and returns err. If the node may have a
// transaction, its error is ErrUnknown as well. Transactions that are Known have no error: they
// stay accepted.
func (s *submission) giveUp(open []int, err error) error {
	for _, at := range open {
		switch {
		case s.out[at].Known:
		case s.tried[at]:
			s.out[at].Err = fmt.Errorf("%w: %w", ErrUnknown, err)
		default:
			s.out[at].Err = err
		}
	}
	return err
}

// Tx returns what became of a transaction, and waits up to the given time for its result. An
// unknown id is ErrNotFound.
func (c *Client) Tx(ctx context.Context, id chain.TxID, wait time.Duration) (Outcome, error) {
	unknown, until := Outcome{Ending: chain.Ending{ID: id}}, time.Now().Add(wait)
	for {
		part := max(0, min(time.Until(until), c.attempt))
		res, err := again(ctx, c, c.attempt+part, &apiv1.GetTxRequest{Id: id[:], Wait: durationpb.New(part)},
			func(v *services, ctx context.Context,
				r *connect.Request[apiv1.GetTxRequest]) (*connect.Response[apiv1.GetTxResponse], error) {
				return v.node.GetTx(ctx, r)
			})

		if connect.CodeOf(err) == connect.CodeNotFound {
			return unknown, fmt.Errorf("%w: %s", ErrNotFound, id)
		}
		if err != nil {
			return unknown, err
		}
		s := submission{out: []Outcome{unknown}, tried: make([]bool, 1)}
		if s.take(0, res.Outcome, true) || !time.Now().Before(until) {
			return s.out[0], s.out[0].Err
		}
	}
}
