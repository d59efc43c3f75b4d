package kafka

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
	"github.com/coppice-go/coppice/internal/servers"
)

func TestMain(m *testing.M) { os.Exit(sinktest.Main(m, Factory())) }

// target returns the definition of a slot with a topic of its own, on a server. more are lines of
// the definition.
func target(t testing.TB, s *servers.Server, more ...string) (streams.Definition, streams.Secrets) {
	t.Helper()
	lines := append([]string{`kind = "kafka"`, fmt.Sprintf("brokers = [%q]", s.Addr)}, more...)
	return sinktest.Define(t, t.TempDir(), lines...)
}

// open makes a sink and claims it.
func open(t testing.TB, d streams.Definition, secrets streams.Secrets, o streams.Opening,
) (streams.Sink, streams.Cursor) {
	t.Helper()
	return sinktest.Open(t, Factory(), d, secrets, o)
}

// client returns a client of the test's own.
func client(t testing.TB, s *servers.Server, more ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(s.Addr)}, more...)...)
	require.NoError(t, err)
	t.Cleanup(c.Close)

	return c
}
