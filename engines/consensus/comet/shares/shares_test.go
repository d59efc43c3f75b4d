package shares

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
)

// The mempool has at most so many transactions of one sender. A block, a refusal at a later check
// and a new process make room, and so does time for what CometBFT has dropped without a word.
func TestSharesOfCometBFTsMempool(t *testing.T) {
	tx := func(i int) []byte { return fmt.Append(nil, i) }
	id := func(i int) chain.TxID { return chain.HashTx(tx(i)) }
	var s Shares

	require.True(t, s.Admit(id(1), "a", 2))
	require.True(t, s.Admit(id(2), "a", 2))
	require.False(t, s.Admit(id(3), "a", 2))
	require.True(t, s.Admit(id(2), "a", 2), "what is held is checked again")
	require.True(t, s.Admit(id(4), "b", 2), "another sender has room of its own")

	s.Release(id(1))
	s.Release(id(1))
	require.True(t, s.Admit(id(3), "a", 2))
	s.Committed([][]byte{tx(3), tx(9)})
	require.True(t, s.Admit(id(5), "a", 2))
	require.False(t, s.Admit(id(6), "a", 2))

	for range keepBlocks {
		s.Committed(nil)
		require.True(t, s.Admit(id(5), "a", 2), "5 is still there")
	}
	require.True(t, s.Admit(id(6), "a", 2), "CometBFT has forgotten 2")

	s.Begin()
	require.Empty(t, s.held)
	require.True(t, s.Admit(id(7), "a", 1))
	require.False(t, s.Admit(id(8), "a", 1))
}
