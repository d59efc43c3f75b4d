package sinkfire

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/internal/servers"
)

// psql runs a statement with PostgreSQL's own client, and returns its lines.
func psql(t testing.TB, s *servers.Server, statement string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1",
		servers.PostgresURL(s, "postgres"), "-c", statement).CombinedOutput()
	require.NoError(t, err, string(out))
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// standing is the row of a sink's cursor.
type standing struct{ epoch, height int64 }

// connect returns a connection of the test's own.
func connect(t testing.TB, s *servers.Server) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), servers.PostgresURL(s, "postgres"))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// cursor reads the row of a sink's cursor.
func cursor(t testing.TB, conn *pgx.Conn, slot string) (at standing) {
	t.Helper()
	row := conn.QueryRow(t.Context(), fmt.Sprintf("select epoch, height from %s.cursor", slot))
	err := row.Scan(&at.epoch, &at.height)
	require.NoError(t, err)
	return at
}

// watchCommits has PostgreSQL keep what each transaction does from now on.
func watchCommits(t testing.TB, s *servers.Server) {
	t.Helper()
	psql(t, s, "select pg_create_logical_replication_slot('witness', 'test_decoding')")
}

var (
	heightOf = regexp.MustCompile(`height\[bigint\]:(\d+)`)
	indexOf  = regexp.MustCompile(`index\[bigint\]:(\d+)`)
	epochOf  = regexp.MustCompile(`epoch\[bigint\]:(\d+)`)
)

// witness is what the server's own log says of the commits of a sink.
type witness struct{ blocks, events, epochs int }

// commits reads what the transactions did: each block comes once, after the one before it, none
// is left out; events are in order; the transaction that brings blocks moves the cursor to the
// last; and the epoch never goes down.
func commits(t testing.TB, s *servers.Server, slot string) (w witness) {
	t.Helper()
	field := func(re *regexp.Regexp, line string) int {
		m := re.FindStringSubmatch(line)
		require.NotNil(t, m, line)
		n, _ := strconv.Atoi(m[1])
		return n
	}
	table := func(name, line string) bool { return strings.HasPrefix(line, "table "+slot+"."+name+": ") }

	lastHeight, lastIndex, lastBlock, pending, epoch := -1, -1, -1, -1, -1
	for _, line := range psql(t, s, "select data from pg_logical_slot_get_changes('witness', null, null)") {
		switch {
		case table("events", line):
			require.Contains(t, line, "INSERT")
			h, i := field(heightOf, line), field(indexOf, line)
			require.True(t, h > lastHeight || h == lastHeight && i > lastIndex, "after %d/%d: %s", lastHeight,
				lastIndex, line)
			lastHeight, lastIndex, w.events = h, i, w.events+1

		case table("blocks", line):
			require.Contains(t, line, "INSERT")
			h := field(heightOf, line)
			require.Equal(t, lastBlock+1, h, "a gap or a duplicate: %s", line)
			lastBlock, pending, w.blocks = h, h, w.blocks+1

		case table("cursor", line):
			if pending >= 0 {
				require.Equal(t, pending, field(heightOf, line), "the cursor is where its transaction's blocks end")
				pending = -1
			}
			if strings.Contains(line, "UPDATE") {
				e := field(epochOf, line)
				require.GreaterOrEqual(t, e, epoch, "an older writer has written: %s", line)
				if e > epoch {
					epoch, w.epochs = e, w.epochs+1
				}
			}

		case strings.HasPrefix(line, "COMMIT"):
			require.Equal(t, -1, pending, "a transaction brought blocks and did not move the cursor")
		}
	}

	return w
}
