package postgres

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
	"github.com/coppice-go/coppice/internal/servers"
)

// R30: the sink speaks TLS, and says what is wrong with a server that it cannot trust. Item 51: no
// error shows the secret.
func TestThePostgresSinkTrustsOnlyTheRightServer(t *testing.T) {
	ca, other := servers.NewAuthority(t), servers.NewAuthority(t)
	secure := func(host string) *servers.Server {
		cert := ca.Issue(t, host)
		return servers.Postgres(t, "ssl=on", "ssl_cert_file="+cert, "ssl_key_file="+cert)
	}
	tries := func(server *servers.Server, authority string) error {
		dir := t.TempDir()
		u, err := url.Parse(servers.PostgresURL(server, "postgres"))
		require.NoError(t, err)
		u.RawQuery = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {authority}}.Encode()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "pg.dsn"), []byte(u.String()), 0o600))
		d, secrets := sinktest.Define(t, dir, `kind = "postgres"`, `dsn_file = "pg.dsn"`)
		s, err := Factory().New(d, secrets)
		require.NoError(t, err)
		defer s.Close(t.Context())
		if _, err := s.Open(t.Context(), sinktest.Opening(d, 1)); err != nil {
			require.NotContains(t, err.Error(), servers.PostgresPassword)
			require.NotContains(t, err.Error(), url.PathEscape(servers.PostgresPassword))
			return err
		}
		return s.Write(t.Context(), sinktest.Deliver(sinktest.Units(1, 2)...))
	}
	refused := func(err error, text string) {
		t.Helper()
		require.ErrorContains(t, err, text)
		require.Equal(t, streams.Misconfigured, streams.ClassOf(err), "%v", err)
	}

	right := secure("127.0.0.1")
	require.NoError(t, tries(right, ca.File))
	refused(tries(right, other.File), "unknown authority")
	refused(tries(secure("elsewhere.example"), ca.File), "127.0.0.1")
	refused(tries(servers.Postgres(t), ca.File), "refused TLS connection")
	refused(tries(right, filepath.Join(t.TempDir(), "none.pem")), "none.pem: no such file")
}
