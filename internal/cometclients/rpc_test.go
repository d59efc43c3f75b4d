package cometclients

import (
	"fmt"
	"testing"
	"time"

	"github.com/cometbft/cometbft/test/loadtime/payload"
	"github.com/cometbft/cometbft/types"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/node/home"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Clients of CometBFT work unmodified on one node.
func TestClientsOfCometBFT(t *testing.T) {
	r := start(t, newHome(t, home.InitOptions{}))
	t.Run("RPC client", r.rpcClient)
	t.Run("light proxy", r.lightProxy)
	t.Run("load tool", r.loadTool)
}

// rpcClient tests the module's RPC client, over HTTP and its websocket.
func (r *running) rpcClient(t *testing.T) {
	ctx := t.Context()
	blocks, err := r.rpc.Subscribe(ctx, "test", types.EventQueryNewBlock.String(), 100)
	require.NoError(t, err)
	txs, err := r.rpc.Subscribe(ctx, "test", types.EventQueryTx.String(), 100)
	require.NoError(t, err)

	status, err := r.rpc.Status(ctx)
	require.NoError(t, err)
	require.Equal(t, "test", status.NodeInfo.Network)

	first := types.Tx("name=coppice")
	sync, err := r.rpc.BroadcastTxSync(ctx, first)
	require.NoError(t, err)
	require.Zero(t, sync.Code, sync.Log)
	require.EqualValues(t, first.Hash(), sync.Hash)
	e := (<-txs).Data.(types.EventDataTx)
	require.EqualValues(t, first, e.Tx)
	require.Zero(t, e.Result.Code, e.Result.Log)
	in := (<-blocks).Data.(types.EventDataNewBlock)
	for len(in.Block.Txs) == 0 { // the first block of a chain has no transactions
		in = (<-blocks).Data.(types.EventDataNewBlock)
	}

	require.Equal(t, e.Height, in.Block.Height)

	commit, err := r.rpc.BroadcastTxCommit(ctx, types.Tx("other=value"))
	require.NoError(t, err)
	require.Zero(t, commit.CheckTx.Code)
	require.Zero(t, commit.TxResult.Code, commit.TxResult.Log)
	refused, err := r.rpc.BroadcastTxCommit(ctx, types.Tx("no key and no value"))
	require.NoError(t, err)
	require.EqualValues(t, 100, refused.CheckTx.Code)
	require.Contains(t, refused.CheckTx.Log, "want key=value")

	block, err := r.rpc.Block(ctx, &e.Height)
	require.NoError(t, err)
	require.Equal(t, types.Txs{first}, block.Block.Txs)
	results, err := r.rpc.BlockResults(ctx, &e.Height)
	require.NoError(t, err)
	require.Len(t, results.TxsResults, 1)
	require.Zero(t, results.TxsResults[0].Code)
	next := e.Height + 1
	header, err := r.rpc.Header(ctx, &next)
	require.NoError(t, err)
	require.EqualValues(t, results.AppHash, header.Header.AppHash, "a header has the app hash of the block before")

	found, err := r.rpc.Tx(ctx, first.Hash(), true)
	require.NoError(t, err)
	require.NoError(t, found.Proof.Validate(block.Block.DataHash))
	page, per := 1, 10
	search, err := r.rpc.TxSearch(ctx, fmt.Sprintf("tx.height=%d", e.Height), false, &page, &per, "asc")
	require.NoError(t, err)
	require.Equal(t, 1, search.TotalCount)
	require.EqualValues(t, first, search.Txs[0].Tx)

	query, err := r.rpc.ABCIQuery(ctx, "/key", []byte("name"))
	require.NoError(t, err)
	require.Equal(t, "coppice", string(query.Response.Value), query.Response.Log)
	info, err := r.rpc.ABCIInfo(ctx)
	require.NoError(t, err)
	require.GreaterOrEqual(t, info.Response.LastBlockHeight, e.Height)
	require.NoError(t, r.rpc.UnsubscribeAll(ctx, "test"))
}

// A transaction that comes in by CometBFT's RPC is like one of ours: it is executed, remembered and
// known to our API, and it is never applied twice, however it comes again.
func TestATransactionOfCometBFTsRPCIsAppliedOnce(t *testing.T) {
	r := start(t, newHome(t, home.InitOptions{}))
	ctx := t.Context()
	body, err := kv.Encode(kv.Add([]byte("counter"), 1))
	require.NoError(t, err)
	tx := chain.NewTx(kv.Name, body, time.Minute)
	raw, err := tx.Encode()
	require.NoError(t, err)
	count := func() string {
		v, _, err := r.api.Get(ctx, []byte("counter"))
		require.NoError(t, err)
		return string(v)
	}

	first, err := r.rpc.BroadcastTxCommit(ctx, raw)
	require.NoError(t, err)
	require.Zero(t, first.TxResult.Code, first.TxResult.Log)
	once := count()
	known, err := r.api.Tx(ctx, chain.HashTx(raw), 0)
	require.NoError(t, err)
	require.Equal(t, uint64(first.Height), known.Result.GetVersion().GetHeight(), "our API knows its result")

	again, err := r.api.SubmitWait(ctx, tx)
	require.NoError(t, err)
	require.Equal(t, uint64(first.Height), again.GetVersion().GetHeight(), "by our API: the same answer")
	_, err = r.rpc.BroadcastTxSync(ctx, raw)
	require.ErrorContains(t, err, "already exists in cache", "by CometBFT's RPC: its mempool knows it")
	r.cutComet() // its mempool has forgotten the transaction
	sync, err := r.rpc.BroadcastTxSync(ctx, raw)
	require.NoError(t, err)
	require.EqualValues(t, logv1.Code_CODE_REPEATED, sync.Code, sync.Log)
	require.Contains(t, sync.Log, "it was applied at")

	// In the other direction: first by our API, then by CometBFT's RPC.
	ours := chain.NewTx(kv.Name, body, time.Minute)
	raw, err = ours.Encode()
	require.NoError(t, err)
	_, err = r.api.SubmitWait(ctx, ours)
	require.NoError(t, err)
	twice := count()
	require.NotEqual(t, once, twice)
	if sync, err = r.rpc.BroadcastTxSync(ctx, raw); err == nil {
		require.EqualValues(t, logv1.Code_CODE_REPEATED, sync.Code, sync.Log)
	}

	_, err = r.rpc.BroadcastTxCommit(ctx, types.Tx("one=more")) // a block later
	require.NoError(t, err)
	require.Equal(t, twice, count())
}

// loadTool sends transactions in the form of the module's load tool: plain bytes, key=value,
// without an envelope.
func (r *running) loadTool(t *testing.T) {
	next := func() []byte {
		raw, err := payload.NewBytes(&payload.Payload{Connections: 1, Rate: 10, Size: 300,
			Id: []byte("0123456789abcdef")})
		require.NoError(t, err)
		return raw
	}

	for range 20 {
		_, err := r.rpc.BroadcastTxAsync(t.Context(), next())
		require.NoError(t, err)
	}

	raw := next()
	last, err := r.rpc.BroadcastTxCommit(t.Context(), raw)
	require.NoError(t, err)
	require.Zero(t, last.TxResult.Code, last.TxResult.Log)
	o, err := r.api.Tx(t.Context(), chain.HashTx(raw), 0)
	require.NoError(t, err)
	require.Equal(t, logv1.Code_CODE_OK, o.Result.GetCode())
	block, err := r.rpc.Block(t.Context(), &last.Height)
	require.NoError(t, err)
	require.NotEmpty(t, block.Block.Txs)

	for _, tx := range block.Block.Txs {
		p, err := payload.FromBytes(tx)
		require.NoError(t, err)
		require.EqualValues(t, 300, p.Size)
	}
}
