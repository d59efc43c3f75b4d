// Package streams compares the PostgreSQL sink with that of CometBFT.
package streams

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/state/indexer/sink/psql"
	"github.com/cometbft/cometbft/types"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/postgres"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
	"github.com/coppice-go/coppice/internal/servers"
)

// Item 55: beside CometBFT's own psql sink on the same server, with blocks of 500 transactions of
// 20 events.
func BenchmarkCometBFT(b *testing.B) {
	const txs, events = 500, 20
	server := servers.Postgres(b)
	url := servers.PostgresURL(server, "postgres")

	dir := b.TempDir()
	require.NoError(b, os.WriteFile(filepath.Join(dir, "dsn"), []byte(url), 0o600))
	d, err := streams.ParseDefinition(filepath.Join(dir, "ours.toml"),
		[]byte("kind = \"postgres\"\ndsn_file = \"dsn\"\n"))
	require.NoError(b, err)
	ours, err := postgres.Factory().New(d, streams.NewSecrets(dir))
	require.NoError(b, err)
	defer ours.Close(b.Context())
	_, err = ours.Open(b.Context(), streams.Opening{Slot: "ours", ChainID: sinktest.ChainID, Definition: "d", Epoch: 1})
	require.NoError(b, err)

	theirs, err := psql.NewEventSink(url, sinktest.ChainID)
	require.NoError(b, err)
	defer theirs.Stop()
	at, err := exec.CommandContext(b.Context(), "go", "list", "-m", "-f", "{{.Dir}}",
		"github.com/cometbft/cometbft").Output()
	require.NoError(b, err)
	schema, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(at)), "state/indexer/sink/psql/schema.sql"))
	require.NoError(b, err)
	_, err = theirs.DB().ExecContext(b.Context(), string(schema))
	require.NoError(b, err)

	sinktest.Compare(b, 5, sinktest.TxBlocks(b.N, txs, events),
		func(u sinktest.Unit) error { return ours.Write(b.Context(), sinktest.Feed(u)) },
		func(u sinktest.Unit) error {
			height := int64(u.Position().Height)
			if err := theirs.IndexBlockEvents(types.EventDataNewBlockEvents{Height: height}); err != nil {
				return err
			}
			return theirs.IndexTxEvents(results(height, u))
		})
}

// results returns the results of the transactions of a unit as CometBFT indexes them.
func results(height int64, u sinktest.Unit) (list []*abci.TxResult) {
	for _, e := range u {
		switch v := e.Body.(type) {
		case *streams.Tx:
			list = append(list, &abci.TxResult{Height: height, Index: v.Number, Tx: append(v.ID, byte(height),
				byte(height>>8))})
		case *streams.Emitted:
			r := list[len(list)-1]
			event := abci.Event{Type: v.Type}
			for _, a := range v.Attributes {
				event.Attributes = append(event.Attributes,
					abci.EventAttribute{Key: a.Key, Value: a.Value, Index: true})
			}
			r.Result.Events = append(r.Result.Events, event)
		}
	}
	return list
}
