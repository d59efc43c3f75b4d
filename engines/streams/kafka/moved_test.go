package kafka

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
	"github.com/coppice-go/coppice/internal/servers"
)

// R40: a sink that moves to another topic tells the readers of each partition of the old one.
func TestEachPartitionEndsWithMoved(t *testing.T) {
	server := servers.Kafka(t)
	d, secrets := target(t, server, "partitions = 3")
	units := sinktest.Units(18, 9)
	made, _ := open(t, d, secrets, sinktest.Opening(d, 1))
	require.NoError(t, made.Write(t.Context(), sinktest.Deliver(units...)))
	to := units[4].Position()
	c, err := made.(streams.Rewinder).Rewind(t.Context(), &to)
	require.NoError(t, err)
	require.Equal(t, to, c.Position)

	other, err := Factory().New(d, secrets)
	require.NoError(t, err)
	old, raw := other.(*sink), client(t, server)
	places, err := old.offsets(t.Context(), raw)
	require.NoError(t, err)
	for p, at := range places {
		var last streams.Event
		require.NoError(t, old.consume(t.Context(), raw, int32(p), at.start, at.end, func(m stored) error {
			last = m.event
			return nil
		}))
		require.IsType(t, &streams.Moved{}, last.Body, "partition %d", p)
		require.Equal(t, made.(*sink).topic, last.Body.(*streams.Moved).To)
	}

	again, c := open(t, d, secrets, sinktest.Opening(d, 2))
	require.Equal(t, to, c.Position)
	require.NoError(t, again.Write(t.Context(), sinktest.Deliver(units[5:]...)))
}
