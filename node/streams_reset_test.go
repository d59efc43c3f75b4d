package node_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/file"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/nodetest"
)

// Over resets of the chain nothing that was acknowledged is lost, and a sink gets each event once,
// in order, also if the stream, the state or the log dies around the reset, or the node restarts.
// What is submitted around the decision goes to the next epoch. Item 55 of the specification of
// resets.
func TestASinkSeesEachEventOnceOverResets(t *testing.T) {
	n := nodetest.Start(t, nodetest.OnDisk(), nodetest.Genesis(resettable),
		nodetest.With(node.WithSink(file.Factory())))
	n.Stop()
	define(t, n.Home(), "out", "kind = \"file\"\ndir = \"../out\"\nkeep_behind = \"0s\"\n")
	n.Begin()
	c := n.Client()

	var txs [][]byte
	submit := func(key string) {
		body, err := kv.Encode(kv.Put([]byte(key), []byte("v")))
		require.NoError(t, err)
		raw, err := c.NewTx(kv.Name, body, time.Minute).Encode()
		require.NoError(t, err)
		outs, err := c.SubmitMany(t.Context(), [][]byte{raw}, false)
		require.NoError(t, err)
		require.NoError(t, outs[0].Err)
		txs = append(txs, raw)
	}

	dies := []string{"engines/streams/slots/out/writer", "engines/streams", "transactions/storage", "logger", ""}
	for i, path := range dies {
		submit(fmt.Sprintf("before%d", i))
		decideReset(t, c, uint64(i)+1)
		submit(fmt.Sprintf("after%d", i))
		if path == "" {
			n.Restart()
			c = n.Client()
		} else {
			n.Cut("coppice/node/" + path)
		}
	}

	height := put(t, c, "last")
	outs, err := c.SubmitMany(t.Context(), txs, true) // the same transactions have the same results
	require.NoError(t, err)
	committed := make(map[chain.Version]string)
	for i, o := range outs {
		require.NoError(t, o.Err)
		require.NotNil(t, o.Result, "transaction %d was acknowledged", i)
		require.Zero(t, o.Result.Code)
		v := chain.VersionFromProto(o.Result.Version)
		committed[v] = fmt.Sprintf([]string{"before%d", "after%d"}[i%2], i/2)
	}
	var want []string
	for _, v := range slices.SortedFunc(maps.Keys(committed), chain.Version.Compare) {
		want = append(want, committed[v])
	}
	require.Len(t, want, 2*len(dies))
	st, err := c.Status(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, len(dies), st.Period)
	got := slices.DeleteFunc(streamedTo(t, n, streams.Position{Period: st.Period, Height: height}),
		func(key string) bool { return strings.HasPrefix(key, "\x00") })
	require.Equal(t, append(want, "last"), got)
}
