package kafka

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
	"github.com/coppice-go/coppice/internal/servers"
)

// R30: the sink speaks TLS, and says what is wrong with a broker that it cannot trust.
func TestTheKafkaSinkTrustsOnlyTheRightBroker(t *testing.T) {
	ca, other := servers.NewAuthority(t), servers.NewAuthority(t)
	tries := func(server *servers.Server, authority string, wait time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), wait) // a broker without TLS does not answer
		defer cancel()
		d, secrets := target(t, server, fmt.Sprintf("ca_file = %q", authority))
		s, err := Factory().New(d, secrets)
		require.NoError(t, err)
		defer s.Close(t.Context())
		if _, err := s.Open(ctx, sinktest.Opening(d, 1)); err != nil {
			return err
		}
		return s.Write(ctx, sinktest.Deliver(sinktest.Units(1, 2)...))
	}
	refused := func(err error, class streams.Class, text string) {
		t.Helper()
		require.ErrorContains(t, err, text)
		require.Equal(t, class, streams.ClassOf(err), "%v", err)
	}

	right := servers.Kafka(t, "-cert", ca.Issue(t, "127.0.0.1"))
	require.NoError(t, tries(right, ca.File, time.Minute))
	refused(tries(right, other.File, time.Minute), streams.Misconfigured, "unknown authority")
	elsewhere := servers.Kafka(t, "-cert", ca.Issue(t, "elsewhere.example"))
	refused(tries(elsewhere, ca.File, time.Minute), streams.Misconfigured, "127.0.0.1")
	refused(tries(servers.Kafka(t), ca.File, time.Second), streams.Unreachable, "does the broker speak TLS")
}
