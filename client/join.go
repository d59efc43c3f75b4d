package client

import (
	"context"
	"sync"
	"time"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

const (
	// joinAtOnce is how many requests with joined submissions are on their way at once. While the
	// node commits what one has brought, it takes what the next one brings.
	joinAtOnce = 2

	// joinTxs and joinBytes bound the submissions that are joined with others.
	joinTxs, joinBytes = 16, 64 << 10

	// joinWait is how long a joined request waits for results. A transaction that takes longer,
	// such as one that its backend defers, then waits by itself, and delays the others no more.
	joinWait = 500 * time.Millisecond
)

// joiner joins the small submissions of concurrent callers into fewer requests. A submission that
// comes while fewer than joinAtOnce requests are on their way is sent at once, and by itself.
// Others wait until one of those requests has its answer, and go together. So a lone caller loses
// nothing, and many callers share the cost of a request. It is safe for concurrent use.
type joiner struct {
	c *Client

	mu      sync.Mutex
	busy    int // requests on their way
	waiting []*joined
}

// joined is a small submission that waits to be sent with others.
type joined struct {
	txs  [][]byte
	wait bool
	done chan struct{} // closed once out and err are set

	out  []*apiv1.TxOutcome
	err  error
	left func() // the caller does not wait any more; nil before the submission is sent
	gone bool   // the caller has left
}

// small reports whether a submission may be joined with others.
func small(txs [][]byte) bool { return len(txs) <= joinTxs && sizeOf(txs) <= joinBytes }

// sizeOf returns the number of bytes of transactions.
func sizeOf(txs [][]byte) (n int) {
	for _, tx := range txs {
		n += len(tx)
	}
	return n
}

// soon reports whether ctx ends before a joined request is certain to have its answer. Its caller
// would not learn that the node has accepted the transaction.
func soon(ctx context.Context) bool {
	until, ends := ctx.Deadline()
	return ends && time.Until(until) < 4*joinWait
}

// submit sends a small submission, with others or alone.
func (j *joiner) submit(ctx context.Context, txs [][]byte, wait bool) ([]*apiv1.TxOutcome, error) {
	j.mu.Lock()
	if j.busy < joinAtOnce {
		j.busy++
		j.mu.Unlock()
		defer j.next()

		return j.c.submitOnce(ctx, txs, wait, j.c.attempt)
	}

	s := &joined{txs: txs, wait: wait, done: make(chan struct{})}
	j.waiting = append(j.waiting, s)
	j.mu.Unlock()

	select {
	case <-s.done:
		return s.out, s.err
	case <-ctx.Done():
	}

	j.mu.Lock()
	defer j.mu.Unlock()

	select {
	case <-s.done:
		return s.out, s.err
	default:
	}

	s.gone = true
	if s.left != nil {
		s.left()
	}

	return nil, context.Cause(ctx)
}

// next ends a request, and sends what has come meanwhile.
func (j *joiner) next() {
	j.mu.Lock()
	defer j.mu.Unlock()

	batch := j.take()
	if len(batch) == 0 {
		j.busy--
		return
	}

	ctx, cancel := context.WithCancel(context.Background()) // of no single caller; it ends with the last one
	inside := len(batch)
	for _, s := range batch {
		s.left = func() {
			if inside--; inside == 0 {
				cancel()
			}
		}
	}

	go func() {
		defer cancel()
		j.send(ctx, batch)
		j.next()
	}()
}

// take removes the submissions of the next request from those that wait: as many as fit, all with
// the same kind of wait. The caller holds j.mu.
func (j *joiner) take() (batch []*joined) {
	var rest []*joined
	txs, size := 0, 0

	for _, s := range j.waiting {
		if s.gone {
			continue
		}

		mine := sizeOf(s.txs)
		if len(rest) > 0 || txs+len(s.txs) > maxBatch || size+mine > maxBatchBytes ||
			len(batch) > 0 && s.wait != batch[0].wait {
			rest = append(rest, s)
			continue
		}

		batch = append(batch, s)
		txs, size = txs+len(s.txs), size+mine
	}

	j.waiting = rest
	return batch
}

// send makes one request of a batch, and hands out the answers.
func (j *joiner) send(ctx context.Context, batch []*joined) {
	var all [][]byte
	for _, s := range batch {
		all = append(all, s.txs...)
	}

	out, err := j.c.submitOnce(ctx, all, batch[0].wait, min(joinWait, j.c.attempt))

	j.mu.Lock()
	defer j.mu.Unlock()

	for _, s := range batch {
		if s.err = err; err == nil {
			s.out, out = out[:len(s.txs)], out[len(s.txs):]
		}
		close(s.done)
	}
}
