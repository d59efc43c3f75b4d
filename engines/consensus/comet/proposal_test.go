package comet

import (
	"bytes"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// The proposal of an honest proposer is accepted up to the limit, and nothing beyond it, because a
// node must execute and keep each block that it accepts.
func TestProposalsAreBounded(t *testing.T) {
	limits := &logv1.Params{MaxTxBytes: 1000, MaxBlockBytes: 10_000}
	tx := func(n int) []byte { return bytes.Repeat([]byte("a"), n) }
	of := func(n int, tx []byte) (txs [][]byte) {
		for range n {
			txs = append(txs, tx)
		}
		return txs
	}
	for name, tt := range map[string]struct {
		txs [][]byte
		ok  bool
	}{
		"nothing":              {nil, true},
		"full to the byte":     {append(of(9, tx(1000)), tx(970)), true},
		"a byte too much":      {append(of(9, tx(1000)), tx(971)), false},
		"one too large":        {of(1, tx(1001)), false},
		"many small ones":      {of(3333, tx(1)), true},
		"one more":             {of(3334, tx(1)), false},
		"what is none":         {of(1, []byte{1}), false},
		"an empty transaction": {of(1, nil), false},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, tt.ok, proposable(tt.txs, limits)) })
	}

	limits.MaxBlockBytes = 64 << 20
	require.True(t, proposable(of(chain.MaxBlockTxs, tx(1)), limits))
	require.False(t, proposable(of(chain.MaxBlockTxs+1, tx(1)), limits))
}

// A transaction that its backend defers stands in no block before its time: a proposer leaves it
// out, and validators refuse a proposal with it. Otherwise a faulty proposer could use up a tick.
func TestADeferredTransactionWaitsForItsTime(t *testing.T) {
	c := newFakeCore()
	a := &app{core: c.core("test"), health: newHealth(nil), log: zap.NewNop()}
	a.chain.Store(&chain.State{ChainID: "test", Params: chain.DefaultParams()})
	txs := [][]byte{[]byte("a=1"), []byte("later=1")}

	for second, want := range map[int64]abci.ResponseProcessProposal_ProposalStatus{
		100: abci.ResponseProcessProposal_REJECT, 101: abci.ResponseProcessProposal_ACCEPT,
	} {
		at := time.Unix(second, 0)
		resp, err := a.processProposal(t.Context(), &abci.RequestProcessProposal{Height: 1, Time: at, Txs: txs})
		require.NoError(t, err)
		require.Equal(t, want, resp.Status, "second %d", second)

		prepared := a.prepareProposal(t.Context(), &abci.RequestPrepareProposal{Height: 1, Time: at, Txs: txs,
			MaxTxBytes: 1 << 20})
		require.Equal(t, want == abci.ResponseProcessProposal_ACCEPT, len(prepared.Txs) == 2, "second %d", second)
	}
}
