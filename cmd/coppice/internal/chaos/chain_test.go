package chaos

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// writeLog makes the log of a stopped node that has committed some blocks.
func writeLog(t *testing.T, blocks ...*logv1.BlockCommitted) string {
	t.Helper()
	dir := t.TempDir()
	l, err := eventlog.Open(dir, eventlog.Options{})
	require.NoError(t, err)

	for _, m := range append([]*logv1.BlockCommitted{}, blocks...) {
		for _, m := range []proto.Message{&logv1.TxLaunched{}, m} {
			rec, err := chain.NewRecord(m)
			require.NoError(t, err)
			require.NoError(t, l.Append(t.Context(), rec).Wait(t.Context()))
		}
	}

	require.NoError(t, l.Close())

	return dir
}

func block(height uint64, hash, app string, txs ...byte) *logv1.BlockCommitted {
	b := &logv1.BlockCommitted{Height: height, BlockHash: []byte(hash), AppHash: []byte(app)}
	for _, tx := range txs {
		id := chain.TxID{tx}
		b.Results = append(b.Results, &logv1.TxResult{Id: id[:]})
	}
	return b
}

// I2, I3: disagreement between the logs of nodes is found, and the nodes are named.
func TestForksAndRepetitionsAreFoundInLogs(t *testing.T) {
	failed := block(3, "c", "3", 9)
	failed.Results[0].Code = logv1.Code_CODE_REPEATED

	for name, tt := range map[string]struct {
		second []*logv1.BlockCommitted
		want   string
	}{
		"the same":            {[]*logv1.BlockCommitted{block(1, "a", "1", 7), block(2, "b", "2", 8)}, ""},
		"behind":              {[]*logv1.BlockCommitted{block(1, "a", "1", 7)}, ""},
		"begun from snapshot": {[]*logv1.BlockCommitted{block(2, "b", "2", 8), block(3, "c", "3", 9)}, ""},
		"a fork": {[]*logv1.BlockCommitted{block(1, "a", "1", 7), block(2, "x", "2", 8)},
			"fork: at height 2 node 0 committed block 62, and node 1 block 78"},
		"another app hash": {[]*logv1.BlockCommitted{block(1, "a", "9", 7)},
			"app hash: at height 1 node 0 has 31, and node 1 has 39"},
		"a gap": {[]*logv1.BlockCommitted{block(1, "a", "1", 7), block(3, "c", "3")},
			"gap: node 1 streamed block 3 after block 1"},
		"one twice": {[]*logv1.BlockCommitted{block(1, "a", "1", 7), block(2, "b", "2", 7)},
			"twice: node 1 applied transaction 07000000"},
		"twice in one block":  {[]*logv1.BlockCommitted{block(1, "a", "1", 7, 7)}, "at height 1 and at height 1"},
		"refused as repeated": {[]*logv1.BlockCommitted{block(1, "a", "1", 9), block(2, "b", "2"), failed}, ""},
		"an id that is no id": {
			[]*logv1.BlockCommitted{{Height: 1, BlockHash: []byte("a"), AppHash: []byte("1"),
				Results: []*logv1.TxResult{{Id: []byte("x")}}}}, "node 1, height 1"},
		"a log that says less": {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := newSightings()
			require.NoError(t, c.read(0, writeLog(t, block(1, "a", "1", 7), block(2, "b", "2", 8))))
			err := c.read(1, writeLog(t, tt.second...))
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestSightsAreCounted(t *testing.T) {
	c := newSightings()
	for node := range 3 {
		f := &follower{sightings: c, node: node}
		require.NoError(t, f.take(block(1, "a", "1", 7)))
		require.NoError(t, f.take(block(2, "b", "2", 7)), "a stream does not keep the ids")
	}

	heights, compared := c.seen()
	require.Equal(t, 2, heights)
	require.Equal(t, 4, compared)
}
