package comet

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	abcicli "github.com/cometbft/cometbft/abci/client"
	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/consensus/comet/comettest"
)

func connect(t *testing.T, path string) abcicli.Client {
	t.Helper()
	c, err := clients(path).NewABCIClient()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	t.Cleanup(func() { c.Stop() })
	return c
}

// Each request gets its own answer, in the order of the requests, and a Flush comes after all
// callbacks of those before it: CometBFT's mempool takes it that no CheckTx is under way after its
// Flush.
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

// What CometBFT asks during a block's life goes through, a block of several frames' steps too.
func TestTheClientCarriesABlock(t *testing.T) {
	chain := newFakeCore()
	s, _ := served(t, chain)
	s.limit = 8 << 20
	path, err := s.open()
	require.NoError(t, err)
	c, ctx := connect(t, path), t.Context()
	_, err = c.InitChain(ctx, &abci.RequestInitChain{ChainId: "test", InitialHeight: 1, Time: time.Unix(1000, 0)})
	require.NoError(t, err)
	txs := [][]byte{bytes.Repeat([]byte("x"), readStep+1), []byte("a=b")}
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

// A connection that ends under the client ends the client, with the reason, and releases whoever
// waits: CometBFT then ends its process.
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

	_, err = s.open() // the endpoint of another child closes the connections of the one before
	require.NoError(t, err)
	require.False(t, <-waiting, "no answer, or that the server gave up the query")
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
	require.ErrorIs(t, err, errClientStopped)
	require.ErrorIs(t, c.Flush(t.Context()), errClientStopped)
}

// An application that answers what was not asked ends the client.
func TestAClientTakesNoAnswerForAnother(t *testing.T) {
	frame := func(resp *abci.Response) []byte {
		b, err := resp.Marshal()
		require.NoError(t, err)
		return comettest.Frame(b)
	}
	for name, c := range map[string]struct {
		answer []byte
		want   string
	}{
		"another kind": {frame(abci.ToResponseEcho("x")), "is answered with"},
		"CheckTx's":    {frame(abci.ToResponseCheckTx(&abci.ResponseCheckTx{})), "is answered with"},
		"one too many": {append(frame(abci.ToResponseInfo(&abci.ResponseInfo{})),
			frame(abci.ToResponseFlush())...), "nobody has asked for"},
		"an exception":      {frame(abci.ToResponseException("it broke")), "it broke"},
		"no protobuf":       {comettest.Frame([]byte("garbage")), "no response"},
		"no kind":           {comettest.Frame(nil), "no kind"},
		"the length only":   {[]byte{5}, "bytes came"},
		"too long a length": {[]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, "want at most"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			l, err := net.Listen("unix", path)
			require.NoError(t, err)
			defer l.Close()

			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				conn.Read(make([]byte, 64))
				conn.Write(c.answer)
			}()

			cl := connect(t, path)
			cl.Info(t.Context(), &abci.RequestInfo{}) // whether it is answered before the end
			<-cl.Quit()
			require.ErrorContains(t, cl.Error(), c.want)
		})
	}
}

func TestEachKindOfRequestHasItsKindOfAnswer(t *testing.T) {
	responses := (*abci.Response)(nil).XXX_OneofWrappers()
	for _, q := range (*abci.Request)(nil).XXX_OneofWrappers() {
		req := new(abci.Request)
		reflect.ValueOf(req).Elem().FieldByName("Value").Set(reflect.New(reflect.TypeOf(q).Elem()))
		n := 0

		for _, r := range responses {
			resp := new(abci.Response)
			reflect.ValueOf(resp).Elem().FieldByName("Value").Set(reflect.New(reflect.TypeOf(r).Elem()))
			if fits(req, resp) {
				n++
			}
		}

		require.Equal(t, 1, n, "%T", q)
	}
}
