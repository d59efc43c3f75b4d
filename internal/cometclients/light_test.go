package cometclients

import (
	"testing"
	"time"

	cfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/libs/log"
	cmtmath "github.com/cometbft/cometbft/libs/math"
	"github.com/cometbft/cometbft/light"
	"github.com/cometbft/cometbft/light/proxy"
	lightrpc "github.com/cometbft/cometbft/light/rpc"
	lightdb "github.com/cometbft/cometbft/light/store/db"
	rpcserver "github.com/cometbft/cometbft/rpc/jsonrpc/server"
	"github.com/cometbft/cometbft/types"
	"github.com/stretchr/testify/require"
)

// trust returns the options that "cometbft light" gets: a height and the hash of its header.
func trust(hash []byte) light.TrustOptions {
	return light.TrustOptions{Period: time.Hour, Height: 1, Hash: hash}
}

func (r *running) lightClient(t *testing.T, o light.TrustOptions) (*light.Client, error) {
	t.Helper()
	c := cfg.TestConfig().SetRoot(t.TempDir())
	c.DBBackend = "memdb"
	db, err := cfg.DefaultDBProvider(&cfg.DBContext{ID: "light", Config: c})
	require.NoError(t, err)
	return light.NewHTTPClient(t.Context(), "test", o, r.addr, []string{r.addr}, lightdb.New(db, "test"),
		light.SkippingVerification(cmtmath.Fraction{Numerator: 1, Denominator: 3}))
}

// lightProxy does what "cometbft light" does: it trusts one header, verifies all others and all
// data that lead to a header, and serves the same RPC.
func (r *running) lightProxy(t *testing.T) {
	ctx := t.Context()
	tx := types.Tx("light=proxy")
	committed, err := r.rpc.BroadcastTxCommit(ctx, tx)
	require.NoError(t, err)
	// The header of the next block proves the results of this one.
	_, err = r.rpc.BroadcastTxCommit(ctx, types.Tx("more=blocks"))
	require.NoError(t, err)
	one := int64(1)
	genesis, err := r.rpc.Commit(ctx, &one)
	require.NoError(t, err)

	_, err = r.lightClient(t, trust(make([]byte, 32)))
	require.ErrorContains(t, err, "expected header's hash", "the header is not the trusted one")

	c, err := r.lightClient(t, trust(genesis.Header.Hash()))
	require.NoError(t, err)
	p, err := proxy.NewProxy(c, "tcp://127.0.0.1:0", r.addr, rpcserver.DefaultConfig(), log.NewNopLogger(),
		lightrpc.KeyPathFn(lightrpc.DefaultMerkleKeyPathFn()))
	require.NoError(t, err)
	verified := p.Client
	require.NoError(t, verified.Start())
	t.Cleanup(func() { verified.Stop() })

	block, err := verified.Block(ctx, &committed.Height)
	require.NoError(t, err)
	require.Equal(t, types.Txs{tx}, block.Block.Txs)
	results, err := verified.BlockResults(ctx, &committed.Height)
	require.NoError(t, err, "the next header has their hash")
	require.Len(t, results.TxsResults, 1)
	found, err := verified.Tx(ctx, tx.Hash(), true)
	require.NoError(t, err)
	require.Equal(t, committed.Height, found.Height)
	header, err := verified.Header(ctx, &committed.Height)
	require.NoError(t, err)
	require.Equal(t, block.Block.Hash(), header.Header.Hash())
	validators, err := verified.Validators(ctx, &committed.Height, nil, nil)
	require.NoError(t, err)
	require.Len(t, validators.Validators, 1)
	again, err := verified.BroadcastTxCommit(ctx, types.Tx("by=light"))
	require.NoError(t, err)
	require.Zero(t, again.TxResult.Code, again.TxResult.Log)

	// A value of the state cannot be verified by a header, because the app hash has no proofs of
	// single keys.
	_, err = verified.ABCIQuery(ctx, "/key", []byte("light"))
	require.ErrorContains(t, err, "response code: 102")
}
