package postgres

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
	"github.com/coppice-go/coppice/internal/servers"
)

// target returns the definition of a slot with a schema of its own, on a server. more are lines of
// the definition.
func target(t testing.TB, s *servers.Server, more ...string) (streams.Definition, streams.Secrets) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pg.dsn"), []byte(servers.PostgresURL(s, "postgres")), 0o600))

	return sinktest.Define(t, dir, append([]string{`kind = "postgres"`, `dsn_file = "pg.dsn"`}, more...)...)
}

// client returns a connection of the test's own.
func client(t testing.TB, s *servers.Server) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), servers.PostgresURL(s, "postgres"))
	require.NoError(t, err)
	t.Cleanup(func() { hangUp(conn) })

	return conn
}

// run executes statements in the schema of a slot.
func run(t testing.TB, s *servers.Server, d streams.Definition, statements ...string) {
	t.Helper()
	require.NoError(t, try(s, d, statements...))
}

func try(s *servers.Server, d streams.Definition, statements ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, servers.PostgresURL(s, "postgres"))
	if err != nil {
		return err
	}
	defer hangUp(conn)
	for _, statement := range append([]string{"set search_path = " + d.Name}, statements...) {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}

	return nil
}

// open makes a sink and claims it.
func open(t testing.TB, d streams.Definition, secrets streams.Secrets, epoch uint64) streams.Sink {
	t.Helper()
	s, _ := sinktest.Open(t, Factory(), d, secrets, sinktest.Opening(d, epoch))
	return s
}
