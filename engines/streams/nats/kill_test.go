package nats

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
	"github.com/coppice-go/coppice/internal/servers"
)

// Items 30 and 60: kill -9 of the writer and of the server. Each round ends with Verify. In the end
// an ordered consumer reads all once more. The duplicate window is the least that a server allows:
// nothing here rests on it.
func TestKillsLeaveEachBlockOnceInNATS(t *testing.T) {
	for name, lines := range map[string][]string{
		"batches":       nil,
		"small batches": {"batch = 4"},
		"no batches":    {`atomic = "never"`},
	} {
		t.Run(name, func(t *testing.T) {
			server := servers.NATS(t)
			d, secrets := target(t, server, lines...)
			units := sinktest.Rounds(t, Factory(), sinktest.Target{Definition: d, Secrets: secrets,
				Kill: func() error { server.Kill(); return server.TryStart() }}, sinktest.RoundsOf(3))

			witness(t, server, d, units, name == "batches")
		})
	}
}

// witness reads the stream by an ordered consumer. It knows nothing of void messages, so it is told
// whether the stream may have the beginning of a unit behind the last whole one.
func witness(t *testing.T, server *servers.Server, d streams.Definition, units []sinktest.Unit, whole bool) {
	t.Helper()
	js := client(t, server)
	stream, err := js.Stream(t.Context(), "coppice-"+d.Name)
	require.NoError(t, err)
	consumer, err := stream.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
	require.NoError(t, err)
	info, err := consumer.Info(t.Context())
	require.NoError(t, err)
	messages, err := consumer.Messages()
	require.NoError(t, err)
	defer messages.Stop()

	var want []streams.Event
	for _, u := range units {
		want = append(want, u...)
	}
	n := 0
	for range info.NumPending {
		m, err := messages.Next(jetstream.NextContext(t.Context()))
		require.NoError(t, err)
		if m.Subject() == "coppice."+d.Name+"."+controlKind {
			continue
		}
		e, err := streams.ParseJSON(m.Data())
		require.NoError(t, err)
		if n == len(want) && !whole {
			return
		}
		require.Less(t, n, len(want), "%s is more than Verify has seen", e.Place)
		require.Equal(t, want[n].Place, e.Place)
		require.Equal(t, want[n].Body.Kind(), e.Body.Kind())
		n++
	}
	require.Equal(t, len(want), n)
}

// Item 61: if the end of the stream was removed, the sink goes on where the slot has last seen it,
// or refuses; it never writes a block again.
func TestAStreamWithoutItsEnd(t *testing.T) {
	server := servers.NATS(t)
	d, secrets := target(t, server)
	units := sinktest.Units(61, 20)
	s, _ := open(t, d, secrets, sinktest.Opening(d, 1))
	require.NoError(t, s.Write(t.Context(), sinktest.Deliver(units[:5]...)))
	before, err := s.Observe(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Write(t.Context(), sinktest.Deliver(units[5:8]...)))
	now, err := s.Observe(t.Context())
	require.NoError(t, err)

	stream, err := client(t, server).Stream(t.Context(), "coppice-"+d.Name)
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context()))

	for _, native := range []string{"", before.Native} {
		o := sinktest.Opening(d, 2)
		o.Native = native
		other, err := Factory().New(d, secrets)
		require.NoError(t, err)
		_, err = other.Open(t.Context(), o)
		require.Equal(t, streams.Misconfigured, streams.ClassOf(err), "%v", err)
		require.ErrorContains(t, err, "is gone")
		require.NoError(t, other.Close(t.Context()))
	}

	o := sinktest.Opening(d, 2)
	o.Native = now.Native
	s, c := open(t, d, secrets, o)
	require.True(t, c.SameUnit(now), "%s and %s", c, now)
	require.NoError(t, s.Write(t.Context(), sinktest.Deliver(units[6:]...)))

	_, c = open(t, d, secrets, sinktest.Opening(d, 3)) // the claim has told where the stream stands
	require.Equal(t, units[len(units)-1].Position(), c.Position)
}

// A batch that the server refuses in the middle of a block leaves nothing that counts: the next
// delivery by another definition makes it void.
func TestTheBeginningOfABlockIsVoidUnderAnotherDefinition(t *testing.T) {
	server := servers.NATS(t)
	d, secrets := target(t, server, "batch = 2")
	units := sinktest.Units(62, 12)
	s, _ := open(t, d, secrets, sinktest.Opening(d, 1))
	require.NoError(t, s.Write(t.Context(), sinktest.Deliver(units[:3]...)))
	require.Error(t, s.Write(t.Context(), sinktest.DeliverCut(len(units[3])-1, units[3])))

	o := sinktest.Opening(d, 2)
	o.Definition = "d2"
	s, c := open(t, d, secrets, o)
	require.Equal(t, units[2].Position(), c.Position)
	require.NoError(t, s.Write(t.Context(), sinktest.Deliver(units[3:]...)))

	report, err := sinktest.Verify(t.Context(), s, units...)
	require.NoError(t, err)
	require.Zero(t, report.Faults, "%v", report.Findings)
}
