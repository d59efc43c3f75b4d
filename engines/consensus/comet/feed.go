package comet

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/consensus"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// Rates of the feed.
const (
	feedTxs   = 500                   // in one batch
	feedPause = 5 * time.Millisecond  // between two batches
	feedRetry = 50 * time.Millisecond // after a batch that failed
	feedIdle  = time.Second           // without new transactions: begin again, because CometBFT may have forgotten some
	feedAgain = 30 * time.Second      // begin again in any case
)

// feed passes the transactions that our pool has accepted to CometBFT's mempool, which spreads them
// and wakes the consensus. It begins again with the oldest transaction for each new process, which
// starts with an empty mempool, and from time to time, because a mempool may forget transactions.
// That costs little: CometBFT drops a transaction that arrives twice, and the pool no longer offers
// committed ones.
type feed struct {
	pool consensus.Feed
	rpc  rpc
	log  *zap.Logger
}

// String names the service in reports.
func (f *feed) String() string { return "feed of CometBFT's mempool" }

// Serve feeds the mempool until ctx ends.
func (f *feed) Serve(ctx context.Context) error {
	defer f.rpc.close()

	var after uint64
	var alone bool
	asked, began := time.Time{}, time.Now()
	complained := ""

	for {
		txs, last, err := f.offer(ctx, after)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)

		case len(txs) == 0: // nothing new, or the pool is down
			after, began = 0, time.Now()
			if err := engines.Pause(ctx, feedRetry); err != nil {
				return err
			}
			continue

		case err == nil && time.Since(asked) > feedIdle:
			if alone, err = f.rpc.alone(ctx); err == nil {
				asked = time.Now()
			}
		}

		if alone {
			// There are no other nodes to tell, and our proposals take transactions from the pool.
			// The newest transaction is enough to wake the consensus.
			txs = txs[len(txs)-1:]
		}

		if err == nil {
			err = f.rpc.broadcast(ctx, txs)
		}

		wait := feedPause
		if err != nil {
			if wait = feedRetry; ctx.Err() == nil && err.Error() != complained && !errors.Is(err, errFull) {
				complained = err.Error()
				f.log.Debug("CometBFT's mempool was not reached", zap.Error(err))
			}
		} else if after, complained = last, ""; time.Since(began) > feedAgain {
			after, began = 0, time.Now()
		}
		if err := engines.Pause(ctx, wait); err != nil {
			return err
		}
	}
}

// offer returns the pool's next transactions after the log index after, and the log index of the
// last one. If the pool has none, offer waits for at most feedIdle.
func (f *feed) offer(ctx context.Context, after uint64) (txs [][]byte, last uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, feedIdle)
	defer cancel()
	return f.pool.Offer(ctx, after, feedTxs, comethome.FeedBytes, true)
}
