package postgres

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
	"github.com/coppice-go/coppice/internal/servers"
)

func TestMain(m *testing.M) { os.Exit(sinktest.Main(m, Factory())) }

// Items 28 and 60: kill -9 of the writer and of the server. Each round ends with Verify. In the end
// a slot of test_decoding tells what each transaction did.
func TestKillsLeaveEachBlockOnceInPostgres(t *testing.T) {
	server := servers.Postgres(t)
	d, secrets := target(t, server)
	conn := client(t, server)
	_, err := conn.Exec(t.Context(), "select pg_create_logical_replication_slot('witness', 'test_decoding')")
	require.NoError(t, err)
	hangUp(conn)

	units := sinktest.Rounds(t, Factory(), sinktest.Target{
		Definition: d, Secrets: secrets,
		Kill: func() error { server.Kill(); return server.TryStart() },
	}, sinktest.RoundsOf(4))

	witness(t, server, d, units)
}

var (
	heightOf = regexp.MustCompile(`height\[bigint\]:(\d+)`)
	indexOf  = regexp.MustCompile(`index\[bigint\]:(\d+)`)
)

// witness reads what the server's log says of each transaction: an event comes after all events
// before it, and the transaction that brings a block moves the cursor to the last of its blocks.
func witness(t *testing.T, server *servers.Server, d streams.Definition, units []sinktest.Unit) {
	t.Helper()
	conn := client(t, server)
	rows, err := conn.Query(t.Context(), "select data from pg_logical_slot_get_changes('witness', null, null)")
	require.NoError(t, err)
	defer rows.Close()

	table := func(name string) *regexp.Regexp {
		return regexp.MustCompile(fmt.Sprintf(`^table %s\.%s: (INSERT|UPDATE|DELETE):`, d.Name, name))
	}
	events, blocks, cursor := table("events"), table("blocks"), table("cursor")
	number := func(re *regexp.Regexp, line string) int {
		m := re.FindStringSubmatch(line)
		require.NotNil(t, m, line)
		n, _ := strconv.Atoi(m[1])
		return n
	}

	lastHeight, lastIndex, lastBlock, pending, nEvents, nBlocks := -1, -1, -1, -1, 0, 0
	for rows.Next() {
		var line string
		require.NoError(t, rows.Scan(&line))

		switch {
		case events.MatchString(line):
			require.Contains(t, line, "INSERT")
			h, i := number(heightOf, line), number(indexOf, line)
			require.True(t, h > lastHeight || h == lastHeight && i > lastIndex, "after %d/%d: %s", lastHeight,
				lastIndex, line)
			lastHeight, lastIndex, nEvents = h, i, nEvents+1

		case blocks.MatchString(line):
			h := number(heightOf, line)
			require.Greater(t, h, lastBlock, line)
			lastBlock, pending, nBlocks = h, h, nBlocks+1

		case cursor.MatchString(line):
			if pending >= 0 {
				require.Equal(t, pending, number(heightOf, line), "the cursor is where its transaction's blocks end")
				pending = -1
			}

		case len(line) > 6 && line[:6] == "COMMIT":
			require.Equal(t, -1, pending, "a transaction brought blocks and did not move the cursor")
		}
	}
	require.NoError(t, rows.Err())

	want := 0
	for _, u := range units {
		want += len(u) - 1 // the End is the row of blocks
	}
	require.Equal(t, []int{want, len(units)}, []int{nEvents, nBlocks}, "events and blocks")
}
