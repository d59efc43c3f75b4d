package cometclients

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/state/indexer/sink/psql"
	"github.com/cometbft/cometbft/types"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/postgres"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
	"github.com/coppice-go/coppice/internal/servers"
)

// The load of item 55: transactions of a block, and events of a transaction.
const psqlTxs, psqlEvents = 500, 20

// Item 55: the sink for PostgreSQL and CometBFT's own psql sink write blocks with the same
// transactions and emitted events to one server, in turn.
func BenchmarkPsqlSinks(b *testing.B) {
	server := servers.Postgres(b)
	dsn := servers.PostgresURL(server, "postgres")
	ctx := b.Context()

	theirs, err := psql.NewEventSink(dsn, "chain")
	require.NoError(b, err)
	defer theirs.Stop() //nolint:errcheck // the server ends too
	schema, err := os.ReadFile(filepath.Join(packageDir(b, "github.com/cometbft/cometbft/state/indexer/sink/psql"),
		"schema.sql"))
	require.NoError(b, err)
	_, err = theirs.DB().ExecContext(ctx, string(schema))
	require.NoError(b, err)

	dir := b.TempDir()
	require.NoError(b, os.WriteFile(filepath.Join(dir, "dsn"), []byte(dsn), 0o600))
	d, err := streams.ParseDefinition(filepath.Join(dir, "bench.toml"),
		[]byte("kind = \"postgres\"\ndsn_file = \"dsn\"\n"))
	require.NoError(b, err)
	ours, err := postgres.Factory().New(d, streams.NewSecrets(dir))
	require.NoError(b, err)
	defer ours.Close(context.Background()) //nolint:errcheck // the server ends too
	_, err = ours.Open(ctx, streams.Opening{Slot: "bench", ChainID: sinktest.ChainID, Epoch: 1})
	require.NoError(b, err)

	var own, other []time.Duration
	at := new(streams.Position)
	require.NoError(b, ours.Write(ctx, sinktest.Feed(sinktest.NewUnit(nil, &streams.Started{InitialHeight: 1}))))
	for b.Loop() {
		unit := blockOfEvents(at)
		*at = unit.Position()
		start := time.Now()
		require.NoError(b, ours.Write(ctx, sinktest.Feed(unit)))
		own = append(own, time.Since(start))

		height := int64(at.Height)
		results := resultsOfEvents(height)
		start = time.Now()
		require.NoError(b, theirs.IndexBlockEvents(types.EventDataNewBlockEvents{Height: height}))
		require.NoError(b, theirs.IndexTxEvents(results))
		other = append(other, time.Since(start))
	}

	slices.Sort(own)
	slices.Sort(other)
	n := float64(psqlTxs * psqlEvents)
	b.ReportMetric(n/own[len(own)/2].Seconds(), "sink-events/s")
	b.ReportMetric(n/other[len(other)/2].Seconds(), "psql-events/s")
	b.ReportMetric(other[len(other)/2].Seconds()/own[len(own)/2].Seconds(), "ratio")
}

func blockOfEvents(after *streams.Position) sinktest.Unit {
	bodies := []streams.Body{&streams.Block{Txs: psqlTxs}}
	for i := range uint32(psqlTxs) {
		bodies = append(bodies, &streams.Tx{Number: i, ID: fmt.Appendf(nil, "%032d", i), Backend: "kv", Size: 100})
		for j := range psqlEvents {
			bodies = append(bodies, &streams.Emitted{Tx: i, Type: "transfer", Attributes: []streams.Attribute{
				{Key: "to", Value: fmt.Sprint("account/", j)}}})
		}
		bodies = append(bodies, &streams.Outcome{Tx: i})
	}
	return sinktest.NewUnit(&streams.Position{Period: after.Period, Height: after.Height}, bodies...)
}

func resultsOfEvents(height int64) (results []*abci.TxResult) {
	for i := range uint32(psqlTxs) {
		r := &abci.TxResult{Height: height, Index: i, Tx: fmt.Appendf(nil, "tx %d %d", height, i)}
		for j := range psqlEvents {
			r.Result.Events = append(r.Result.Events, abci.Event{Type: "transfer", Attributes: []abci.EventAttribute{
				{Key: "to", Value: fmt.Sprint("account/", j), Index: true}}})
		}
		results = append(results, r)
	}
	return results
}

// packageDir returns the folder of a package's sources.
func packageDir(t testing.TB, path string) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", "{{.Dir}}", path).Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}
