package node_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
)

// BenchmarkCommit measures a whole node on disk through its API: transactions of one 64-byte put,
// from submission to result.
func BenchmarkCommit(b *testing.B) {
	for _, clients := range []int{1, 64} {
		for _, batch := range []int{1, 100} {
			b.Run(fmt.Sprintf("clients=%d/batch=%d", clients, batch), func(b *testing.B) {
				benchCommit(b, clients, batch)
			})
		}
	}
}

func benchCommit(b *testing.B, clients, batch int) {
	dir := b.TempDir()
	_, err := home.Init(dir, home.InitOptions{Listen: "127.0.0.1:0"})
	require.NoError(b, err)
	c, err := config.Load(dir)
	require.NoError(b, err)
	n, err := node.New(dir, c)
	require.NoError(b, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	addr, err := n.Addr(ctx)
	require.NoError(b, err)
	cl := client.New(addr)
	defer cl.CloseIdle()

	_, err = cl.WaitReady(ctx)
	require.NoError(b, err)

	value := make([]byte, 64)
	body, err := kv.Encode(kv.Put([]byte("key"), value))
	require.NoError(b, err)
	work := make(chan int)
	var wg sync.WaitGroup
	b.ResetTimer()

	for range clients {
		wg.Go(func() {
			for size := range work {
				txs := make([][]byte, size)
				for i := range txs {
					txs[i], _ = chain.NewTx("kv", body, 5*time.Minute).Encode()
				}
				if _, err := cl.SubmitMany(ctx, txs, true); err != nil {
					b.Error(err)
				}
			}
		})
	}

	for left := b.N; left > 0; left -= batch {
		work <- min(batch, left)
	}

	close(work)
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tx/s")
	stop()
	require.NoError(b, <-ended)
}
