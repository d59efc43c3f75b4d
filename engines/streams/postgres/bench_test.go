package postgres

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
	"github.com/coppice-go/coppice/internal/servers"
)

// Item 55: beside a transaction of COPY with a row of a cursor, into a table with the same key.
func BenchmarkPostgres(b *testing.B) {
	server := servers.Postgres(b)
	for _, changes := range []int{100, 1000, 5000} {
		b.Run(fmt.Sprint(changes), func(b *testing.B) {
			d, secrets := target(b, server)
			s := open(b, d, secrets, 1)
			conn, err := pgx.Connect(b.Context(), servers.PostgresURL(server, "postgres"))
			require.NoError(b, err)
			defer hangUp(conn)
			table := "plain_" + d.Name
			for _, statement := range []string{
				"create table " + table + " (like " + d.Name + ".events including indexes)",
				"create table " + table + "_cursor (height bigint)", "insert into " + table + "_cursor values (0)",
			} {
				_, err := conn.Exec(b.Context(), statement)
				require.NoError(b, err)
			}

			sinktest.Compare(b, 0.8, sinktest.Blocks(b.N, changes),
				func(u sinktest.Unit) error { return s.Write(b.Context(), sinktest.Feed(u)) },
				func(u sinktest.Unit) error { return plain(b, conn, table, u) })
		})
	}
}

// plain is a client's own loop.
func plain(b *testing.B, conn *pgx.Conn, table string, u sinktest.Unit) error {
	ctx := b.Context()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx) //nolint:errcheck // after Commit it does nothing

	rows := make([][]any, 0, len(u))
	for _, e := range u {
		row := []any{int64(e.Period), int64(e.Height), int64(e.Index), int32(0), string(e.Body.Kind()), nil, e.Key(),
			nil}
		if c, ok := e.Body.(*streams.Change); ok {
			row[5], row[7] = int32(c.Tx), c.Value
		}
		rows = append(rows, row)
	}
	columns := []string{"period", "height", "index", "part", "kind", "tx", "key", "value"}
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromRows(rows)); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "update "+table+"_cursor set height = $1", int64(u.Position().Height)); err != nil {
		return err
	}

	return tx.Commit(ctx)
}
