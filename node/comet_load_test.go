package node

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// cometLoad submits transactions through every death of the node. Each adds 1 to a counter of its
// own: an absent counter means lost, and 2 means applied twice. The load waits for the results of
// half of them, so that at every kill some acknowledged transactions have no result yet.
type cometLoad struct {
	cl   *client.Client
	ctx  context.Context
	stop context.CancelFunc // of what is under way, too
	quit chan struct{}      // closed: nothing more is begun
	over sync.Once
	wg   sync.WaitGroup

	mu    sync.Mutex
	acked []string
	bad   []string
}

const (
	loadClients = 4
	loadBatch   = 5
	loadPause   = 5 * time.Millisecond
)

func startCometLoad(cl *client.Client) *cometLoad {
	l := &cometLoad{cl: cl, quit: make(chan struct{})}
	l.ctx, l.stop = context.WithCancel(context.Background())

	for c := range loadClients {
		l.wg.Go(func() {
			tick := time.NewTicker(loadPause)
			defer tick.Stop()

			for i := 0; ; i++ {
				select {
				case <-l.quit:
					return
				case <-tick.C:
				}
				l.submit(c, i)
			}
		})
	}

	return l
}

func (l *cometLoad) submit(c, i int) {
	var keys []string
	var txs [][]byte

	for j := range loadBatch {
		key := fmt.Sprintf("%d.%d.%d", c, i, j)
		body, err := kv.Encode(kv.Add([]byte(key), 1))
		if err != nil {
			panic(err)
		}
		tx, err := chain.NewTx(kv.Name, body, 9*time.Minute).Encode()
		if err != nil {
			panic(err)
		}

		keys, txs = append(keys, key), append(txs, tx)
	}

	wait := i%2 == 0
	out, err := l.cl.SubmitMany(l.ctx, txs, wait)
	if l.ctx.Err() != nil {
		return
	}

	l.mu.Lock()
	defer l.mu.Unlock()

	if err != nil {
		l.bad = append(l.bad, fmt.Sprintf("%v: %v", keys, err))
		return
	}

	for j, o := range out {
		if o.Err != nil || wait && o.Result == nil || o.Result != nil && o.Result.Code != logv1.Code_CODE_OK {
			l.bad = append(l.bad, fmt.Sprintf("%s: %+v", keys[j], o))
			continue
		}
		l.acked = append(l.acked, keys[j])
	}
}

// auditRounds is how many blocks after all others an acknowledged transaction may take. After that
// it counts as lost.
const auditRounds = 50

// end ends the load in order, and counts. It reads a counter that is not 1 again once everything
// that was acknowledged before has ended.
func (l *cometLoad) end(t *testing.T) (acked, lost, twice int) {
	t.Helper()
	l.over.Do(func() { close(l.quit) })
	late := time.AfterFunc(cometWait, l.stop)
	l.wg.Wait()
	require.True(t, late.Stop(), "the load did not end within %v", cometWait)
	require.Empty(t, l.bad)
	ctx, cancel := context.WithTimeout(t.Context(), 5*cometWait)
	defer cancel()

	open := l.acked

	for range auditRounds {
		var wrong []string
		lost, twice = 0, 0

		for at := 0; at < len(open); at += 1000 {
			part := open[at:min(at+1000, len(open))]
			keys := make([][]byte, len(part))
			for i, k := range part {
				keys[i] = []byte(k)
			}

			read, err := l.cl.GetMany(ctx, keys)
			require.NoError(t, err)

			for i, v := range read.Values {
				switch n, err := strconv.Atoi(string(v)); {
				case err != nil || n < 1:
					lost, wrong = lost+1, append(wrong, part[i])
				case n > 1:
					twice, wrong = twice+1, append(wrong, part[i])
				}
			}
		}

		if open = wrong; len(open) == 0 {
			break
		}

		_, _, err := l.cl.GetConsistent(ctx, []byte("audit"))
		require.NoError(t, err)
	}

	if len(open) > 0 {
		t.Logf("not 1: %.500q", open)
	}

	return len(l.acked), lost, twice
}

// cut ends the load at once.
func (l *cometLoad) cut() {
	l.over.Do(func() { close(l.quit) })
	l.stop()
	l.wg.Wait()
}
