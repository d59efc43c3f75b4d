package comet

import (
	"fmt"
	"testing"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/chain"
)

// CheckTx and proposals take so many transactions of one sender, whatever other nodes send. A block
// makes room, and so does a check of the rest that refuses. What is beyond a bound, and what was
// checked before, is not checked. Item 73.
func TestOneSenderHasSoMuchOfTheMempool(t *testing.T) {
	c := newFakeCore()
	a := &app{core: c.core("test"), health: newHealth(nil), log: zap.NewNop()}
	a.chain.Store(&chain.State{ChainID: "test", Params: chain.DefaultParams()})
	check := func(tx string, kind abci.CheckTxType) uint32 {
		return a.checkTx(t.Context(), &abci.RequestCheckTx{Tx: []byte(tx), Type: kind}).Code
	}
	first := func(tx string) uint32 { return check(tx, abci.CheckTxType_New) }

	require.Zero(t, first("a:=1"))
	require.Zero(t, first("a:=2"))
	require.EqualValues(t, codeRefused, first("a:=3"))
	require.EqualValues(t, 2, c.checks.Load())
	require.Zero(t, first("b:=1"))
	require.Zero(t, check("a:=2", abci.CheckTxType_Recheck))
	require.EqualValues(t, 3, c.checks.Load())
	for i := range 3 {
		require.Zero(t, first(fmt.Sprint("free=", i)))
	}

	a.shares.Committed([][]byte{[]byte("a:=1")})
	require.Zero(t, first("a:=3"))
	require.EqualValues(t, codeRefused, first("a:=4"))

	c.checks.Store(0)
	resp := a.prepareProposal(t.Context(), &abci.RequestPrepareProposal{Height: 1, MaxTxBytes: 1000,
		Txs: [][]byte{[]byte("a:=5"), []byte("a:=6"), []byte("a:=7"), []byte("b:=1")}})
	require.Equal(t, [][]byte{[]byte("a:=5"), []byte("b:=1")}, resp.Txs)
	require.EqualValues(t, 2, c.checks.Load())
}
