package comet

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

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
