package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
	"github.com/coppice-go/coppice/internal/servers"
)

// refused expects that a definition whose connection string is dsn cannot be opened.
func refused(t *testing.T, dsn string, class streams.Class, text string, more ...string) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pg.dsn"), []byte(dsn), 0o600))
	d, err := streams.ParseDefinition(filepath.Join(dir, "trouble.toml"),
		[]byte("kind = \"postgres\"\ndsn_file = \"pg.dsn\"\n"+strings.Join(more, "\n")))
	require.NoError(t, err)
	s, err := Factory().New(d, streams.NewSecrets(dir))
	require.NoError(t, err)
	defer s.Close(t.Context())
	_, err = s.Open(t.Context(), sinktest.Opening(d, 1))
	require.Equal(t, class, streams.ClassOf(err), "%v", err)
	require.ErrorContains(t, err, text)
	if u, failed := url.Parse(dsn); failed == nil && u.User != nil {
		if password, ok := u.User.Password(); ok { // item 51
			require.NotContains(t, err.Error(), password)
		}
	}
}

// Item 67: what stands in the way of a claim has a class and is named.
func testTroubleWithPostgresHasAClass(t *testing.T, server *servers.Server) {
	good := servers.PostgresURL(server, "postgres")
	run := func(statements ...string) {
		t.Helper()
		require.NoError(t, try(server, streams.Definition{Name: "public"}, statements...))
	}

	refused(t, "postgres://postgres:swordfish@127.0.0.1:1/postgres", streams.Unreachable, "connect")
	refused(t, strings.Replace(good, "correct%20horse", "swordfish", 1), streams.Unauthorised, "password")
	refused(t, strings.Replace(good, "/postgres?", "/nowhere?", 1), streams.Misconfigured, "nowhere")
	refused(t, "postgres://u:swordfish@198.51.100.1/x?sslmode=prefer", streams.Misconfigured, "without TLS")
	refused(t, "this is = no dsn = swordfish", streams.Misconfigured, "no connection string")

	run("create schema foreign_one", "create table foreign_one.cursor (a integer)")
	refused(t, good, streams.Misconfigured, `"foreign_one".cursor is not one of this sink`, `schema = "foreign_one"`)

	run("create role guest login password 'guest'")
	refused(t, strings.Replace(good, "postgres:correct%20horse", "guest:guest", 1), streams.Unauthorised,
		"permission denied", `schema = "of_guest"`)

	run("alter database postgres set default_transaction_read_only = on")
	refused(t, good, streams.Unreachable, "read-only")
	run("set default_transaction_read_only = off", "alter database postgres reset default_transaction_read_only")

	run("alter system set fsync = off", "select pg_reload_conf()")
	require.Eventually(t, func() bool {
		var v string
		return client(t, server).QueryRow(t.Context(), "show fsync").Scan(&v) == nil && v == "off"
	}, time.Minute, 20*time.Millisecond)
	refused(t, good, streams.Misconfigured, "fsync = off")
	run("alter system reset fsync", "select pg_reload_conf()")

	require.Equal(t, streams.Full, streams.ClassOf(classify(&pgconn.PgError{Code: "53100"})))
}

// Item 67: an inline secret, and a wrong value, are refused with their place in the file.
func TestABadDefinitionOfPostgresIsRefused(t *testing.T) {
	for lines, text := range map[string]string{
		`dsn = "postgres://u:swordfish@h/d"`:                            "dsn is a secret",
		"dsn_file = \"x\"\nschema = \"pg_x\"":                           "belongs to PostgreSQL",
		"dsn_file = \"x\"\nsynchronous_commit = \"off\"":                "want on or remote_apply",
		"dsn_file = \"x\"\ndsn_env = \"Y\"":                             "want one of",
		"dsn_file = \"x\"\ntable = \"t\"":                               `unknown key "table"`,
		"dsn_file = \"x\"\nschema = \"" + strings.Repeat("s", 64) + `"`: "at most 63 bytes",
	} {
		d, err := streams.ParseDefinition("bad.toml", []byte("kind = \"postgres\"\n"+lines))
		require.NoError(t, err)
		_, err = Factory().New(d, streams.Secrets{})
		require.Equal(t, streams.Misconfigured, streams.ClassOf(err), lines)
		require.ErrorContains(t, err, text)
		require.NotContains(t, err.Error(), "swordfish")
	}
}

// Item 39: a row that the operator's own constraint refuses names its event, and nothing of the
// transaction stays.
func testARefusedRowNamesItsEvent(t *testing.T, server *servers.Server) {
	d, secrets := target(t, server)
	units := sinktest.Units(39, 12)
	s := open(t, d, secrets, 1)
	require.NoError(t, s.Write(t.Context(), sinktest.Deliver(units[:3]...)))
	run(t, server, d, "alter table events add constraint mine check (kind <> 'outcome' or height < 3)")

	err := s.Write(t.Context(), sinktest.Deliver(units[3:]...))
	var f *streams.Failure
	require.ErrorAs(t, err, &f)
	require.Equal(t, streams.RejectedEvent, f.Class)
	require.ErrorContains(t, err, "mine")

	var want streams.Place
	for _, u := range units[3:] {
		for _, e := range u {
			if e.Body.Kind() == streams.KindOutcome && want.ChainID == "" {
				want = e.Place
			}
		}
	}
	require.Equal(t, want, f.Place)
	report, err := sinktest.Verify(t.Context(), s, units[:3]...)
	require.NoError(t, err)
	require.Zero(t, report.Faults)
}

// stuck is a delivery that gives the beginning of a unit and then waits until it is released.
type stuck struct {
	streams.Delivery
	left    int
	reached chan struct{}
	release chan struct{}
}

func (d *stuck) Next(ctx context.Context) (streams.Event, error) {
	if d.left == 0 {
		close(d.reached)
		<-d.release // whatever becomes of ctx: the writer's node is stopped
		return streams.Event{}, io.ErrUnexpectedEOF
	}
	d.left--
	return d.Delivery.Next(ctx)
}

// Item 27: a writer that is stopped inside a transaction holds the lock of the cursor. A newer
// claim ends its session and goes on.
func testAClaimEndsAWriterThatHoldsTheLock(t *testing.T, server *servers.Server) {
	d, secrets := target(t, server)
	units := sinktest.Units(27, 10)
	old := open(t, d, secrets, 1)
	require.NoError(t, old.Write(t.Context(), sinktest.Deliver(units[:2]...)))

	delivery := &stuck{Delivery: sinktest.Deliver(units[2:]...), left: 2, reached: make(chan struct{}),
		release: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- old.Write(context.Background(), delivery) }()
	<-delivery.reached

	s := open(t, d, secrets, 2)
	require.NoError(t, s.Write(t.Context(), sinktest.Deliver(units[2:]...)))
	close(delivery.release)
	require.Error(t, <-ended)
	report, err := sinktest.Verify(t.Context(), s, units...)
	require.NoError(t, err)
	require.Zero(t, report.Faults)
}

// Item 48: what jsonb cannot hold is kept nevertheless.
func testNULInTextIsKept(t *testing.T, server *servers.Server) {
	d, secrets := target(t, server)
	s := open(t, d, secrets, 1)
	unit := sinktest.NewUnit(nil, &streams.Emitted{Type: "a\x00b", Attributes: []streams.Attribute{{Key: "k\x00",
		Value: "\x00"}}})
	require.NoError(t, s.Write(t.Context(), sinktest.Deliver(unit)))
	report, err := sinktest.Verify(t.Context(), s, unit)
	require.NoError(t, err)
	require.Zero(t, report.Faults, "%v", report.Findings)
}

// What was committed although its answer was lost is not written again, and the lost connection has
// a class.
func testALostConnectionIsUnreachable(t *testing.T, server *servers.Server) {
	d, secrets := target(t, server)
	units := sinktest.Units(5, 6)
	s := open(t, d, secrets, 1)
	require.NoError(t, s.Write(t.Context(), sinktest.Deliver(units[:2]...)))
	server.Kill()
	err := s.Write(t.Context(), sinktest.Deliver(units[2:]...))
	require.Equal(t, streams.Unreachable, streams.ClassOf(err), "%v", err)
	require.False(t, errors.Is(err, context.Canceled))
	server.Start()

	again := open(t, d, secrets, 2)
	require.NoError(t, again.Write(t.Context(), sinktest.Deliver(units[1:]...)))
	report, err := sinktest.Verify(t.Context(), again, units...)
	require.NoError(t, err)
	require.Zero(t, report.Faults, fmt.Sprint(report.Findings))
}
