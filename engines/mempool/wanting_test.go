package mempool_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/enginestest"
	"github.com/coppice-go/coppice/engines/mempool"
)

// gatedCrew is a crew that comes up when the test says so.
type gatedCrew struct {
	crew
	up chan struct{}
}

func (c gatedCrew) AwaitUp(ctx context.Context) error {
	select {
	case <-c.up:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// many starts a pool over a log of n transactions. Its workers are down until up is closed, and the
// pool waits for room in r.jobs for each.
func many(t *testing.T, n int) (r *rig, txs [][]byte, up chan struct{}) {
	t.Helper()
	up = make(chan struct{})
	msgs := make([]proto.Message, n)
	txs = make([][]byte, n)
	for i := range txs {
		txs[i] = tx(t, i, time.Minute)
		msgs[i] = launched(txs[i])
	}

	return start(t, func(c *mempool.Config) {
		c.Workers = gatedCrew{c.Workers.(crew), up}
		logged(t, c, msgs...)
	}, nil), txs, up
}

// hired takes n jobs, and requires that they are of different transactions.
func (r *rig) hired(n int) (jobs []*mempool.Task) {
	r.t.Helper()
	seen := make(map[chain.TxID]bool)
	for range n {
		j := <-r.jobs
		require.False(r.t, seen[j.ID], "a second worker of a transaction")
		seen[j.ID] = true
		jobs = append(jobs, j)
	}
	return jobs
}

// A block that was decided before a restart of the pool does not wait for the workers of what
// follows it, and each transaction gets one worker.
func TestADecidedBlocksWorkersComeFirst(t *testing.T) {
	const n = 600 // more than are started at once
	r, txs, up := many(t, n)
	last := txs[n-1]
	r.place(1, last)
	close(up)

	jobs := r.hired(n)
	at := -1
	for i, j := range jobs {
		if j.ID == chain.HashTx(last) {
			at = i
		} else {
			require.False(t, j.Late)
		}
	}

	require.LessOrEqual(t, at, 256, "wantingAtOnce eager workers, and then those of the block")
	require.True(t, jobs[at].Late)
	require.EqualValues(t, 1, (<-jobs[at].Place).Version.Height)
	require.Equal(t, n-1, r.stat().Workers)
}

// A block may also come while the workers of a restarted pool are being started.
func TestABlockIsPlacedAmongTheStartsOfWorkers(t *testing.T) {
	const n = 600
	r, txs, up := many(t, n)
	close(up)
	first := r.hired(1) // the pool is at it

	placed := make(chan struct{})
	go func() {
		defer close(placed)
		r.place(1, txs[0], txs[n-1])
	}()
	jobs := append(first, r.hired(n-1)...)
	<-placed

	ids := make(map[chain.TxID]*mempool.Task)
	for _, j := range jobs {
		ids[j.ID] = j
	}
	require.Len(t, ids, n)
	for i, raw := range [][]byte{txs[0], txs[n-1]} {
		require.EqualValues(t, i, (<-ids[chain.HashTx(raw)].Place).Version.Index)
	}
	require.Equal(t, n-2, r.stat().Workers)
}

// unasked is a backend that must not be asked about a body.
type unasked struct {
	lenient
	t *testing.T
}

func (b unasked) Check([]byte) error {
	b.t.Error("a body was checked though the pool is down")
	return nil
}

// Submissions that come while the pool is down take no work.
func TestAPoolThatIsDownDecodesNothing(t *testing.T) {
	c := mempool.NewClient(new(enginestest.Directory), map[string]chain.Backend{"any": unasked{t: t}})
	_, err := c.Submit(t.Context(), [][]byte{tx(t, 1, time.Minute)})
	require.ErrorIs(t, err, engines.ErrDown)
}
