package kafka

import (
	"bytes"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
	"github.com/coppice-go/coppice/internal/servers"
)

// Items 29 and 60: kill -9 of the writer and of the broker, which is kfake and not Kafka. Each
// round ends with Verify. In the end kcat reads all once more.
func TestKillsLeaveEachBlockOnceInKafka(t *testing.T) {
	for name, lines := range map[string][]string{
		"one partition":    nil,
		"three partitions": {"partitions = 3"},
	} {
		t.Run(name, func(t *testing.T) {
			server := servers.Kafka(t)
			d, secrets := target(t, server, lines...)
			units := sinktest.Rounds(t, Factory(), sinktest.Target{Definition: d, Secrets: secrets,
				Kill: func() error { server.Kill(); return server.TryStart() }}, sinktest.RoundsOf(3))

			if lines == nil {
				witness(t, server, d, units)
			}
		})
	}
}

// witness reads the topic by kcat, which has another client library.
func witness(t *testing.T, server *servers.Server, d streams.Definition, units []sinktest.Unit) {
	t.Helper()
	kcat := servers.Require(t, "kcat")
	out, err := exec.CommandContext(t.Context(), kcat, "-b", server.Addr, "-t", "coppice-"+d.Name, "-p", "0", "-C",
		"-o", "beginning", "-e", "-q", "-X", "isolation.level=read_committed", "-f", "%h\t%s\n").Output()
	require.NoError(t, err)

	var want []streams.Event
	for _, u := range units {
		want = append(want, u...)
	}
	n := 0
	for line := range bytes.Lines(out) {
		headers, value, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte("\t"))
		if bytes.Contains(headers, []byte(headerControl)) {
			continue
		}
		e, err := streams.ParseJSON(value)
		require.NoError(t, err, "%s", value)
		require.Less(t, n, len(want), "%s is more than Verify has seen", e.Place)
		require.Equal(t, want[n].Place, e.Place)
		n++
	}
	require.Equal(t, len(want), n)
}

// Item 61: if the tail of the topic was removed, the sink goes on where the slot has last seen it,
// or refuses; it never writes a block again.
func TestATopicWithoutItsTail(t *testing.T) {
	server := servers.Kafka(t)
	d, secrets := target(t, server)
	units := sinktest.Units(61, 20)
	s, _ := open(t, d, secrets, sinktest.Opening(d, 1))
	require.NoError(t, s.Write(t.Context(), sinktest.Deliver(units[:5]...)))
	before, err := s.Observe(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Write(t.Context(), sinktest.Deliver(units[5:8]...)))
	now, err := s.Observe(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Close(t.Context()))
	removeAll(t, server, "coppice-"+d.Name)

	for _, native := range []string{"", before.Native} {
		o := sinktest.Opening(d, 2)
		o.Native = native
		other, err := Factory().New(d, secrets)
		require.NoError(t, err)
		_, err = other.Open(t.Context(), o)
		require.Equal(t, streams.Misconfigured, streams.ClassOf(err), "%v", err)
		require.ErrorContains(t, err, "has lost the tail of partition 0")
		require.NoError(t, other.Close(t.Context()))
	}

	o := sinktest.Opening(d, 2)
	o.Native = now.Native
	s, c := open(t, d, secrets, o)
	require.True(t, c.SameUnit(now), "%s and %s", c, now)
	require.NoError(t, s.Write(t.Context(), sinktest.Deliver(units[6:]...)))
	_, c = open(t, d, secrets, sinktest.Opening(d, 3))
	require.Equal(t, units[len(units)-1].Position(), c.Position)
}

// removeAll removes the records of a topic, as retention does.
func removeAll(t *testing.T, server *servers.Server, topic string) {
	t.Helper()
	admin := kadm.NewClient(client(t, server, kgo.ClientID("test")))
	ends, err := admin.ListEndOffsets(t.Context(), topic)
	require.NoError(t, err)
	removed, err := admin.DeleteRecords(t.Context(), ends.Offsets())
	require.NoError(t, err)
	require.NoError(t, removed.Error())
}
