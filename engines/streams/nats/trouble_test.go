package nats

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
	"github.com/coppice-go/coppice/internal/servers"
)

// Item 67: what stands in the way of a claim has a class and is named. Item 51: no error shows the
// secret.
func TestTroubleWithNATSHasAClass(t *testing.T) {
	config := filepath.Join(t.TempDir(), "nats.conf")
	require.NoError(t, os.WriteFile(config, []byte("authorization { token: swordfish }\n"), 0o600))
	server := servers.NATS(t, "-config", config)

	refused := func(url, token string, class streams.Class, text string, more ...string) {
		t.Helper()
		d, secrets := target(t, server, append(more, `token_file = "token"`)...)
		dir := filepath.Dir(d.File)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "token"), []byte(token), 0o600))
		if url != "" {
			own, err := streams.ParseDefinition(d.File, []byte("kind = \"nats\"\nurl = \""+url+"\"\n"))
			require.NoError(t, err)
			d = own
		}

		made, err := Factory().New(d, secrets)
		if err == nil {
			_, err = made.Open(t.Context(), sinktest.Opening(d, 1))
			require.NoError(t, made.Close(t.Context()))
		}
		require.Equal(t, class, streams.ClassOf(err), "%v", err)
		require.ErrorContains(t, err, text)
		require.NotContains(t, err.Error(), "swordfish")
	}

	refused("nats://127.0.0.1:1", "", streams.Unreachable, "no servers available")
	refused("", "wrong", streams.Unauthorised, "Authorization")
	refused("nats://u:swordfish@127.0.0.1:4222", "", streams.Misconfigured, "has a user or a password")
	refused("nats://198.51.100.1:4222", "", streams.Misconfigured, "without TLS")
	refused("", "swordfish", streams.Misconfigured, "want a subject", `subject = "a.>"`)
	refused("", "swordfish", streams.Misconfigured, "unknown key", "colour = 1")

	// Streams that would lose what is written to them.
	d, secrets := target(t, server, `token_file = "token"`)
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(d.File), "token"), []byte("swordfish"), 0o600))
	s, _ := open(t, d, secrets, sinktest.Opening(d, 1))
	js := s.(*sink).conn.js
	for name, c := range map[string]jetstream.StreamConfig{
		"removes what was consumed": {Retention: jetstream.WorkQueuePolicy},
		"is kept in memory":         {Storage: jetstream.MemoryStorage},
		"has the subjects":          {Subjects: []string{"other"}},
	} {
		other, _ := target(t, server)
		c.Name = "coppice-" + other.Name
		if c.Subjects == nil {
			c.Subjects = []string{"coppice." + other.Name + ".>"}
		}
		_, err := js.CreateStream(t.Context(), c)
		require.NoError(t, err)
		refused("", "swordfish", streams.Misconfigured, name, `stream = "`+c.Name+`"`,
			`subject = "coppice.`+other.Name+`"`)
	}

	// Item 27: a stream at which another program writes is not written any more.
	require.NoError(t, s.Write(t.Context(), sinktest.Deliver(sinktest.Units(1, 2)...)))
	_, err := js.Publish(t.Context(), "coppice."+d.Name+".foreign", []byte("hello"))
	require.NoError(t, err)
	err = s.Write(t.Context(), sinktest.Deliver(sinktest.Units(1, 3)[3:]...))
	require.Equal(t, streams.Misconfigured, streams.ClassOf(err))
	require.ErrorContains(t, err, "is not of this sink")
}
