package client_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/chain"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// held is a NodeService without a network that answers a Submit when the test says so.
type held struct {
	apiv1connect.UnimplementedNodeServiceHandler

	mu    sync.Mutex
	calls []*call
}

type call struct {
	txs    []string
	wait   time.Duration
	answer chan error // nil: a result for each transaction, but for one that begins with "slow"
	ended  bool       // the client has given up
}

func (h *held) Submit(ctx context.Context,
	req *connect.Request[apiv1.SubmitRequest]) (*connect.Response[apiv1.SubmitResponse], error) {
	c := &call{answer: make(chan error, 1), wait: req.Msg.Timeout.AsDuration()}
	res := &apiv1.SubmitResponse{}

	for _, tx := range req.Msg.Txs {
		c.txs = append(c.txs, string(tx))
		id := chain.HashTx(tx)
		o := &apiv1.TxOutcome{Id: id[:], Outcome: &apiv1.TxOutcome_Accepted{Accepted: &apiv1.Accepted{}}}
		if string(tx[:4]) != "slow" {
			o.Outcome = &apiv1.TxOutcome_Result{Result: &logv1.TxResult{Id: id[:], Data: tx}}
		}
		res.Outcomes = append(res.Outcomes, o)
	}

	h.mu.Lock()
	h.calls = append(h.calls, c)
	h.mu.Unlock()

	select {
	case err := <-c.answer:
		return connect.NewResponse(res), err
	case <-ctx.Done():
		h.mu.Lock()
		c.ended = true
		h.mu.Unlock()
		return nil, ctx.Err()
	}
}

// at waits until everything else waits, and returns the calls so far.
func (h *held) at() []*call {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.calls)
}

// joining returns a client of a held node, in a bubble, and a function that submits in a goroutine.
func joining(t *testing.T) (h *held, submit func(ctx context.Context, tx string) <-chan client.Outcome) {
	h = &held{}
	_, handler := apiv1connect.NewNodeServiceHandler(h)
	c := client.New("node", client.WithHTTPClient(&http.Client{Transport: direct{handler}}))

	return h, func(ctx context.Context, tx string) <-chan client.Outcome {
		out := make(chan client.Outcome, 1)
		go func() {
			outs, err := c.SubmitMany(ctx, [][]byte{[]byte(tx)}, true)
			if outs[0].Err == nil && outs[0].Result == nil {
				outs[0].Err = err
			}
			out <- outs[0]
		}()
		synctest.Wait()
		return out
	}
}

// Submissions that come while requests are on their way go together, and each caller has its own
// answer. A lone caller's request waits for nobody.
func TestConcurrentSubmissionsShareARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, submit := joining(t)
		txs := []string{"tx 0", "tx 1", "tx 2", "tx 3", "tx 4"}
		var outs []<-chan client.Outcome
		for _, tx := range txs {
			outs = append(outs, submit(t.Context(), tx))
		}

		calls := h.at()
		require.Len(t, calls, 2, "the first two are sent at once")
		require.Equal(t, []string{"tx 0"}, calls[0].txs)
		require.Equal(t, []string{"tx 1"}, calls[1].txs)

		calls[1].answer <- nil
		calls = h.at()
		require.Len(t, calls, 3)
		require.Equal(t, []string{"tx 2", "tx 3", "tx 4"}, calls[2].txs)

		calls[2].answer <- nil
		calls[0].answer <- nil
		for i, out := range outs {
			o := <-out
			require.NoError(t, o.Err)
			require.Equal(t, chain.HashTx([]byte(txs[i])), o.ID)
			require.Equal(t, txs[i], string(o.Result.Data))
		}
		require.Len(t, h.at(), 3)
	})
}

// A transaction without a result in time waits by itself, for its full time. Those that were sent
// with it have their results by then.
func TestASlowTransactionWaitsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, submit := joining(t)
		first, second := submit(t.Context(), "tx 0"), submit(t.Context(), "tx 1")
		slow, quick := submit(t.Context(), "slow"), submit(t.Context(), "tx 2")

		calls := h.at()
		calls[0].answer <- nil
		calls[1].answer <- nil
		<-first
		<-second
		calls = h.at()
		require.Equal(t, []string{"slow", "tx 2"}, calls[2].txs)
		require.LessOrEqual(t, calls[2].wait, time.Second)

		calls[2].answer <- nil
		require.NoError(t, (<-quick).Err)
		<-time.After(time.Second) // the pause before it asks again
		calls = h.at()
		require.Len(t, calls, 4)
		require.Equal(t, []string{"slow"}, calls[3].txs)
		require.Greater(t, calls[3].wait, 4*time.Second)

		third := submit(t.Context(), "tx 3")
		calls = h.at()
		require.Len(t, calls, 5, "it holds up nobody")
		calls[4].answer <- nil
		require.NoError(t, (<-third).Err)
		calls[3].answer <- connect.NewError(connect.CodeInvalidArgument, errors.New("enough"))
		require.ErrorContains(t, (<-slow).Err, "enough")
	})
}

// A caller that leaves does not end the request of the others. The last one that leaves does.
func TestCallersThatLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, submit := joining(t)
		first, second := submit(t.Context(), "tx 0"), submit(t.Context(), "tx 1")
		ctx, leave := context.WithCancel(t.Context())
		gone, stays := submit(ctx, "tx 2"), submit(t.Context(), "tx 3")
		never, last := context.WithCancel(t.Context())
		dropped := submit(never, "tx 4")
		last() // before it is sent
		require.ErrorIs(t, (<-dropped).Err, context.Canceled)

		calls := h.at()
		calls[0].answer <- nil
		calls = h.at()
		require.Equal(t, []string{"tx 2", "tx 3"}, calls[2].txs)

		leave()
		o := <-gone
		require.ErrorIs(t, o.Err, context.Canceled)
		require.ErrorIs(t, o.Err, client.ErrUnknown, "it was sent")
		calls = h.at()
		require.False(t, calls[2].ended)
		calls[2].answer <- nil
		require.NoError(t, (<-stays).Err)

		both, leave := context.WithCancel(t.Context())
		block := submit(t.Context(), "tx 5")
		a, b := submit(both, "tx 6"), submit(both, "tx 7")
		calls = h.at()
		calls[1].answer <- nil
		calls = h.at()
		require.Equal(t, []string{"tx 6", "tx 7"}, calls[4].txs)
		leave()
		<-a
		<-b
		require.True(t, h.at()[4].ended)
		calls[3].answer <- nil
		<-block
		<-first
		<-second
	})
}

// An error that another attempt may mend is each caller's own: each submits again.
func TestALostRequestIsRepeatedByEachCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, submit := joining(t)
		outs := []<-chan client.Outcome{submit(t.Context(), "tx 0"), submit(t.Context(), "tx 1"),
			submit(t.Context(), "tx 2"), submit(t.Context(), "tx 3")}
		h.at()[0].answer <- nil
		h.at()[2].answer <- connect.NewError(connect.CodeUnavailable, errors.New("restarting"))

		go func() {
			for seen := 3; t.Context().Err() == nil; {
				<-time.After(time.Millisecond)
				h.mu.Lock()
				for ; seen < len(h.calls); seen++ {
					h.calls[seen].answer <- nil
				}
				h.mu.Unlock()
				if seen == 5 {
					return
				}
			}
		}()

		h.at()[1].answer <- nil
		for _, out := range outs {
			require.NoError(t, (<-out).Err)
		}
	})
}

// A caller with little time is not made to wait with others: it learns in time that the node has
// its transaction.
func TestACallerWithLittleTimeGoesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, submit := joining(t)
		a, b := submit(t.Context(), "tx 0"), submit(t.Context(), "tx 1")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		hasty := submit(ctx, "slow")

		calls := h.at()
		require.Len(t, calls, 3)
		require.Less(t, calls[2].wait, time.Second)
		for _, c := range calls {
			c.answer <- nil
		}
		<-a
		<-b
		require.ErrorIs(t, (<-hasty).Err, context.DeadlineExceeded)
	})
}

// direct carries requests to a handler without a network.
type direct struct{ h http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	return roundTrip(d.h, r)
}
