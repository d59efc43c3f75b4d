package kafka

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
	"github.com/coppice-go/coppice/internal/servers"
)

// Item 67: what stands in the way of a claim has a class and is named. Item 51: no error shows the
// secret.
func TestTroubleWithKafkaHasAClass(t *testing.T) {
	server := servers.Kafka(t, "-user", "admin:swordfish")
	refused := func(at, password string, class streams.Class, text string, more ...string) {
		t.Helper()
		s := &servers.Server{Addr: server.Addr}
		if at != "" {
			s.Addr = at
		}
		d, secrets := target(t, s, append(more, `user = "admin"`, `password_file = "password"`)...)
		require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(d.File), "password"), []byte(password), 0o600))
		made, err := Factory().New(d, secrets)
		if err == nil {
			_, err = made.Open(t.Context(), sinktest.Opening(d, 1))
			require.NoError(t, made.Close(t.Context()))
		}
		require.Equal(t, class, streams.ClassOf(err), "%v", err)
		require.ErrorContains(t, err, text)
		require.NotContains(t, err.Error(), "swordfish")
	}

	refused("127.0.0.1:1", "swordfish", streams.Unreachable, "refused")
	refused("", "wrong", streams.Unreachable, "EOF") // kfake hangs up where Kafka answers:
	require.Equal(t, streams.Unauthorised, streams.ClassOf(classify(kerr.SaslAuthenticationFailed)))
	refused("198.51.100.1:9092", "swordfish", streams.Misconfigured, "without TLS")
	refused("", "swordfish", streams.Misconfigured, "unknown key", "colour = 1")
	refused("", "swordfish", streams.Misconfigured, "password is a secret", `password = "swordfish"`)

	admin := kadm.NewClient(client(t, server, kgo.SASL(plain.Auth{User: "admin", Pass: "swordfish"}.AsMechanism())))
	for topic, c := range map[string]struct{ key, value, text string }{
		"compacted": {"cleanup.policy", "compact", "is compacted"},
		"small":     {"max.message.bytes", "1000", "takes messages of 1000 bytes"},
		"many":      {"retention.ms", "-1", "has 2 partitions"},
	} {
		partitions := int32(1)
		if topic == "many" {
			partitions = 2
		}
		_, err := admin.CreateTopic(t.Context(), partitions, 1, map[string]*string{c.key: &c.value}, topic)
		require.NoError(t, err)
		refused("", "swordfish", streams.Misconfigured, c.text, `topic = "`+topic+`"`)
	}
}
