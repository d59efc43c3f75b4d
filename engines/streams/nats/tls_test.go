package nats

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
	"github.com/coppice-go/coppice/internal/servers"
)

// R30: the sink speaks TLS, and says what is wrong with a server that it cannot trust.
func TestTheNATSSinkTrustsOnlyTheRightServer(t *testing.T) {
	ca, other := servers.NewAuthority(t), servers.NewAuthority(t)
	secure := func(host string) *servers.Server {
		cert := ca.Issue(t, host)
		config := filepath.Join(t.TempDir(), "nats.conf")
		require.NoError(t, os.WriteFile(config,
			fmt.Appendf(nil, "tls { cert_file: %q, key_file: %q }\n", cert, cert), 0o600))
		return servers.NATS(t, "-config", config)
	}
	tries := func(server *servers.Server, authority string) error {
		d, secrets := sinktest.Define(t, t.TempDir(), `kind = "nats"`, fmt.Sprintf("url = \"tls://%s\"", server.Addr),
			fmt.Sprintf("ca_file = %q", authority))
		s, err := Factory().New(d, secrets)
		require.NoError(t, err)
		defer s.Close(t.Context())
		if _, err := s.Open(t.Context(), sinktest.Opening(d, 1)); err != nil {
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
	refused(tries(servers.NATS(t), ca.File), "secure connection not available")
}
