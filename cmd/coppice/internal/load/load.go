// Package load puts a node under load. Many clients submit batches of transactions. A client that
// gets no answer submits the same transaction, with the same id, again. A report counts the
// acknowledged transactions and shows how long commits took.
package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coppice-go/coppice/client"
)

// Item is a transaction to submit, with the key that it writes and the value of that key
// afterwards.
type Item struct {
	Key, Value string
	Body       []byte
}

// Config configures a load.
type Config struct {
	Client   *client.Client
	Backend  string                       // of the transactions
	ValidFor time.Duration                // how long a transaction may wait for its block
	Next     func(n uint64) (Item, error) // the n-th item, from 0; called by several goroutines
	Clients  int                          // how many submit at the same time
	Batch    int                          // transactions per submission
	Count    uint64                       // transactions in all; 0 is no limit
	Rate     float64                      // transactions per second of all clients; 0 is no limit
	NoWait   bool                         // submissions end when they are acknowledged, not with their results
	Acked    func(items []Item) error     // called for each acknowledgment, one call at a time; may be nil
	Stop     <-chan struct{}              // closed to finish the submissions under way and begin no others; may be nil
	// called for each item that was refused, failed or is unknown; false ends the run; may be nil
	Failed func(item Item, err error) bool
}

// Report counts the transactions of a run.
type Report struct {
	Submitted uint64 // handed to the client
	Acked     uint64 // known to be durable
	Committed uint64 // with the result CODE_OK
	Failed    uint64 // refused, expired, or with another result
	Unknown   uint64 // without an answer when the run ended
	Elapsed   time.Duration
	Latency   Histogram // from a submission to its result or, with NoWait, to its acknowledgment
}

// PerSecond returns the rate of committed transactions or, with noWait, of acknowledged ones.
func (r Report) PerSecond(noWait bool) float64 {
	n := r.Committed
	if noWait {
		n = r.Acked
	}
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(n) / r.Elapsed.Seconds()
}

// Run is a load that is under way or has ended.
type Run struct {
	c     Config
	start time.Time
	next  atomic.Uint64 // transactions handed out

	mu     sync.Mutex // guards report, and the calls of Acked and Failed
	report Report
	err    error
	cancel context.CancelCauseFunc
}

// Validate returns an error if the configuration is not valid.
func (c Config) Validate() error {
	switch {
	case c.Clients < 1:
		return fmt.Errorf("clients: %d, want at least 1", c.Clients)
	case c.Batch < 1 || c.Batch > 10_000:
		return fmt.Errorf("batch: %d, want 1 to 10000", c.Batch)
	case c.Rate < 0:
		return fmt.Errorf("rate: %v, want at least 0", c.Rate)
	case c.ValidFor <= 0:
		return fmt.Errorf("valid for: %v, want more than 0", c.ValidFor)
	}
	return nil
}

// New returns a run of a valid configuration.
func New(c Config) (*Run, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Run{c: c}, nil
}

// Run submits transactions until the count is reached, Stop is closed, ctx ends, or a failure ends
// the run. The report counts a transaction as unknown if it has no answer when ctx ends.
func (r *Run) Run(ctx context.Context) (Report, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	r.mu.Lock()
	r.start, r.cancel = time.Now(), cancel
	r.mu.Unlock()

	var wg sync.WaitGroup

	for range r.c.Clients {
		wg.Go(func() {
			for ctx.Err() == nil && r.turn(ctx) {
			}
		})
	}

	wg.Wait()
	rep := r.Report()
	r.mu.Lock()
	defer r.mu.Unlock()

	return rep, r.err
}

// Report returns the report so far.
func (r *Run) Report() Report {
	r.mu.Lock()
	defer r.mu.Unlock()

	rep := r.report
	if !r.start.IsZero() {
		rep.Elapsed = time.Since(r.start)
	}
	return rep
}

// turn makes one submission and reports whether there is more to do.
func (r *Run) turn(ctx context.Context) bool {
	from, n := r.reserve()
	if n == 0 || !r.pace(ctx, from) {
		return false
	}

	items := make([]Item, n)
	txs := make([][]byte, n)

	for i := range items {
		var err error
		if items[i], err = r.c.Next(from + uint64(i)); err == nil {
			txs[i], err = r.c.Client.NewTx(r.c.Backend, items[i].Body, r.c.ValidFor).Encode()
		}
		if err != nil {
			r.end(err)
			return false
		}
	}

	begin := time.Now()
	outs, err := r.c.Client.SubmitMany(ctx, txs, !r.c.NoWait)
	r.account(items, outs, err, time.Since(begin))

	return true
}

// reserve returns the numbers of the next batch.
func (r *Run) reserve() (from uint64, n int) {
	to := r.next.Add(uint64(r.c.Batch))
	from, n = to-uint64(r.c.Batch), r.c.Batch
	if r.c.Count != 0 && to > r.c.Count {
		n = int(max(int64(r.c.Count)-int64(from), 0))
	}
	return from, n
}

// pace waits until the transaction with the number from is due, and reports whether the run goes
// on.
func (r *Run) pace(ctx context.Context, from uint64) bool {
	var due time.Duration
	if r.c.Rate > 0 {
		due = time.Until(r.start.Add(time.Duration(float64(from) / r.c.Rate * float64(time.Second))))
	}

	if due <= 0 {
		select {
		case <-r.c.Stop:
			return false
		default:
			return ctx.Err() == nil
		}
	}

	t := time.NewTimer(due)
	defer t.Stop()

	select {
	case <-t.C:
		return true
	case <-r.c.Stop:
	case <-ctx.Done():
	}

	return false
}

// account adds the outcomes of a submission to the report.
func (r *Run) account(items []Item, outs []client.Outcome, err error, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.report.Submitted += uint64(len(items))
	acked := make([]Item, 0, len(items))

	for i, o := range outs {
		failure := o.Err
		switch {
		case errors.Is(o.Err, client.ErrExpired):
			acked = append(acked, items[i]) // it was acknowledged, and expired later
			r.report.Failed++

		case errors.As(o.Err, new(*client.RefusedError)) && !errors.Is(o.Err, client.ErrUnknown):
			r.report.Failed++

		case o.Err != nil:
			r.report.Unknown++

		case o.Result != nil && o.Result.Code != 0:
			r.report.Failed++
			failure = fmt.Errorf("transaction %s: %v: %s", o.ID.Short(), o.Result.Code, o.Result.Log)

		case o.Result != nil:
			r.report.Committed++
			acked = append(acked, items[i])
			r.report.Latency.Add(took)

		case err != nil: // accepted, but the wait for its result was cut short
			acked = append(acked, items[i])
			r.report.Unknown++

		default:
			acked = append(acked, items[i])
			r.report.Latency.Add(took)
		}

		if failure != nil && r.c.Failed != nil && !r.c.Failed(items[i], failure) {
			r.fail(failure)
		}
	}

	r.report.Acked += uint64(len(acked))

	if len(acked) > 0 && r.c.Acked != nil {
		if err := r.c.Acked(acked); err != nil {
			r.fail(err)
		}
	}
}

// end ends the run with an error.
func (r *Run) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail(err)
}

// fail is end with r.mu held. The first error counts.
func (r *Run) fail(err error) {
	if r.err == nil {
		r.err = err
		r.cancel(err)
	}
}
