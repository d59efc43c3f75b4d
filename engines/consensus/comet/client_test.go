package comet

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	abcicli "github.com/cometbft/cometbft/abci/client"
	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	"github.com/coppice-go/coppice/engines/consensus/comet/wire"
)

func connect(t *testing.T, path string) abcicli.Client {
	t.Helper()
	c, err := child.Clients(path).NewABCIClient()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	t.Cleanup(func() { c.Stop() })
	return c
}

// Each request gets its own answer, in the order of the requests. A Flush ends after all callbacks
// of earlier requests, because CometBFT's mempool relies on it that no CheckTx is under way after
// its Flush.
func TestTheClientAnswersEachRequestInItsOrder(t *testing.T) {
	_, path := served(t, newFakeCore())
	c := connect(t, path)
	ctx := t.Context()
	_, err := c.InitChain(ctx, &abci.RequestInitChain{ChainId: "test", InitialHeight: 1, Time: time.Unix(1000, 0)})
	require.NoError(t, err)

	const bursts, each = 4, 500
	var mu sync.Mutex
	all, own := 0, 0
	c.SetResponseCallback(func(req *abci.Request, resp *abci.Response) {
		if req.GetCheckTx() != nil {
			mu.Lock()
			all++
			mu.Unlock()
		}
	})

	var running sync.WaitGroup
	for b := range bursts {
		running.Go(func() {
			next := 0
			for i := range each {
				tx := fmt.Appendf(nil, "%d.%d=v", b, i)
				if i%7 == 0 {
					tx = append([]byte("bad"), tx...)
				}

				r, err := c.CheckTxAsync(ctx, &abci.RequestCheckTx{Tx: tx})
				if err != nil {
					t.Error(err)
					return
				}

				r.SetCallback(func(resp *abci.Response) {
					mu.Lock()
					defer mu.Unlock()
					own++
					if resp.GetCheckTx().IsErr() != (i%7 == 0) || i != next {
						t.Errorf("burst %d: request %d was answered in place of %d, with %v", b, i, next, resp)
					}
					next++
				})
			}

			if err := c.Flush(ctx); err != nil {
				t.Error(err)
			}

			mu.Lock()
			defer mu.Unlock()

			if next != each {
				t.Errorf("burst %d: flushed with %d of %d answered", b, next, each)
			}
		})
	}

	running.Wait()
	require.Equal(t, bursts*each, all)
	require.Equal(t, bursts*each, own)
	require.NoError(t, c.Error())
}

// All requests of a block's life pass, even a block of several frame steps.
func TestTheClientCarriesABlock(t *testing.T) {
	chain := newFakeCore()
	s, _ := served(t, chain)
	s.limit = 8 << 20
	path, err := s.open()
	require.NoError(t, err)
	c, ctx := connect(t, path), t.Context()
	_, err = c.InitChain(ctx, &abci.RequestInitChain{ChainId: "test", InitialHeight: 1, Time: time.Unix(1000, 0)})
	require.NoError(t, err)
	txs := [][]byte{bytes.Repeat([]byte("x"), wire.ReadStep+1), []byte("a=b")}
	at := time.Unix(1001, 0).UTC()
	p, err := c.PrepareProposal(ctx, &abci.RequestPrepareProposal{Height: 1, Time: at, MaxTxBytes: 4 << 20, Txs: txs})
	require.NoError(t, err)
	require.Equal(t, txs, p.Txs)
	f, err := c.FinalizeBlock(ctx, &abci.RequestFinalizeBlock{Height: 1, Hash: []byte("one"), Time: at, Txs: txs})
	require.NoError(t, err)
	require.Equal(t, txs[0], f.TxResults[0].Data)
	_, err = c.Commit(ctx, &abci.RequestCommit{})
	require.NoError(t, err)
	i, err := c.Info(ctx, &abci.RequestInfo{})
	require.NoError(t, err)
	require.EqualValues(t, 1, i.LastBlockHeight)
	e, err := c.Echo(ctx, "hello")
	require.NoError(t, err)
	require.Equal(t, "hello", e.Message)
	q, err := c.Query(ctx, &abci.RequestQuery{Data: []byte("k")})
	require.NoError(t, err)
	require.Equal(t, []byte("value of k"), q.Value)
}

// A connection that ends also ends the client, with the reason, and releases all callers that wait.
// CometBFT then ends its process.
func TestAClientWhoseConnectionEndsSaysSoAndReleasesItsCallers(t *testing.T) {
	chain := newFakeCore()
	chain.blocked = make(chan struct{})
	s, path := served(t, chain)
	c := connect(t, path)
	_, err := c.Info(t.Context(), &abci.RequestInfo{})
	require.NoError(t, err)
	waiting := make(chan bool)
	go func() {
		resp, err := c.Query(context.Background(), &abci.RequestQuery{Data: []byte("k")})
		waiting <- err == nil && resp.Code == 0
	}()

	_, err = s.open() // a new child's endpoint closes the connections of the previous one
	require.NoError(t, err)
	require.False(t, <-waiting, "the query gets no answer, or learns that the server gave it up")
	<-c.Quit()
	require.Error(t, c.Error())
	_, err = c.CheckTxAsync(t.Context(), &abci.RequestCheckTx{})
	require.ErrorIs(t, err, c.Error())
}

func TestAClientThatWasStoppedHasNoError(t *testing.T) {
	_, path := served(t, newFakeCore())
	c := connect(t, path)
	require.NoError(t, c.Stop())
	require.NoError(t, c.Error())
	_, err := c.Info(t.Context(), &abci.RequestInfo{})
	require.ErrorIs(t, err, child.ErrClientStopped)
	require.ErrorIs(t, c.Flush(t.Context()), child.ErrClientStopped)
}
