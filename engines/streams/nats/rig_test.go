package nats

import (
	"fmt"
	"os"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
	"github.com/coppice-go/coppice/internal/servers"
)

func TestMain(m *testing.M) { os.Exit(sinktest.Main(m, Factory())) }

// target returns the definition of a slot with a stream of its own, on a server. more are lines of
// the definition.
func target(t testing.TB, s *servers.Server, more ...string) (streams.Definition, streams.Secrets) {
	t.Helper()
	lines := append([]string{`kind = "nats"`, fmt.Sprintf("url = \"nats://%s\"", s.Addr)}, more...)
	return sinktest.Define(t, t.TempDir(), lines...)
}

// open makes a sink and claims it.
func open(t testing.TB, d streams.Definition, secrets streams.Secrets, o streams.Opening,
) (streams.Sink, streams.Cursor) {
	t.Helper()
	return sinktest.Open(t, Factory(), d, secrets, o)
}

// client returns a connection of the test's own.
func client(t testing.TB, s *servers.Server) jetstream.JetStream {
	t.Helper()
	js, err := connectTo(s)
	require.NoError(t, err)
	t.Cleanup(js.Conn().Close)

	return js
}

func connectTo(s *servers.Server) (jetstream.JetStream, error) {
	nc, err := nats.Connect(s.Addr)
	if err != nil {
		return nil, err
	}
	return jetstream.New(nc)
}
