package storage

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// The outcome of a block is one record of the log (I1: a decided block that does not fit would stop
// every node, at each start). The order of the block decides which transactions no longer fit, in
// whatever order they finish (I2, I3).
func TestABlockHasRoomForSoMuch(t *testing.T) {
	const n, each = 40, 1 << 20
	for name, order := range map[string]func(i int) int{
		"as they stand":  func(i int) int { return i },
		"the last first": func(i int) int { return n - 1 - i },
	} {
		t.Run(name, func(t *testing.T) {
			d := started(t)
			var txs [][]byte
			for i := range n {
				txs = append(txs, tx(t, i, genesis.Add(window)))
			}

			_, err := d.Begin(block(d, genesis, txs...))
			require.NoError(t, err)

			for i := range n {
				i := order(i)
				v := chain.Version{Period: 1, Height: 1, Index: uint32(i)}
				changes := at(v, put(fmt.Sprintf("k%d", i), strings.Repeat("x", each/2)))
				data := make([]byte, each/2)
				if i == n-1 { // small enough for the rest
					changes, data = at(v, put("small", "")), nil
				}
				require.NoError(t, d.Finish(v, changes, &logv1.TxResult{Data: data}))
			}

			s, err := d.Seal()
			require.NoError(t, err)

			for i, r := range s.Results {
				if i < 31 || i == n-1 {
					require.Equal(t, logv1.Code_CODE_OK, r.Code, "%d", i)
					continue
				}
				require.Equal(t, logv1.Code_CODE_LIMIT, r.Code, "%d", i)
				require.Empty(t, r.Data)
				require.Contains(t, r.Log, "of its block there are")
			}

			require.Len(t, s.Changes, 32)
			require.Equal(t, "small", string(s.Changes[31].Key))
			require.NoError(t, d.Commit(2, committed(s)))
			require.Equal(t, "none", d.testGet(t, "k31", 0))
		})
	}
}

func TestTextsOfResultsFitARecord(t *testing.T) {
	d := started(t)
	_, err := d.Begin(block(d, genesis, tx(t, 1, genesis.Add(window))))
	require.NoError(t, err)
	text := strings.Repeat("\xff", 10_000) // a backend's error may contain any bytes
	require.NoError(t, d.Finish(chain.Version{Period: 1, Height: 1}, nil,
		&logv1.TxResult{Code: logv1.Code_CODE_FAILED, Log: text}))
	s, err := d.Seal()
	require.NoError(t, err)
	require.LessOrEqual(t, len(s.Results[0].Log), chain.MaxResultLogBytes)
	_, err = chain.NewRecord(committed(s))
	require.NoError(t, err, "a record has valid UTF-8")
}

// The arithmetic behind chain.MaxBlockTxs, MaxOutcomeBytes, MaxHookBytes and MaxResultLogBytes.
func TestTheFullestBlockFitsARecord(t *testing.T) {
	v := chain.Version{Period: 1 << 62, Height: 1 << 62, Index: 1 << 31}.Proto()
	rec := &logv1.BlockCommitted{ChainId: strings.Repeat("c", 50), BlockHash: make([]byte, 32),
		AppHash: make([]byte, 32)}
	data := chain.MaxOutcomeBytes / 2 / chain.MaxBlockTxs
	longest := &logv1.TxResult{
		Id: make([]byte, 32), Version: v, Code: logv1.Code_CODE_FAILED, ValidUntilMs: 1 << 62,
		Data: make([]byte, data), Log: strings.Repeat("x", chain.MaxResultLogBytes),
	}

	for range chain.MaxBlockTxs {
		rec.Results = append(rec.Results, longest)
	}

	smallest := &logv1.Change{Version: v, Key: []byte{1}, Delete: true}
	for range (chain.MaxOutcomeBytes/2 + chain.MaxHookBytes) / (1 + chain.ChangeOverhead) {
		rec.Changes = append(rec.Changes, smallest)
	}

	r, err := chain.NewRecord(rec)
	require.NoError(t, err)
	require.Less(t, len(r.Data), eventlog.DefaultMaxRecord)
}
