package kafka

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
	"github.com/coppice-go/coppice/internal/servers"
)

// Items 18 and 45: the broker is put back to an older copy of its data while a writer is idle. The
// broker takes what that writer sends next; the writer sees by the offset that it must open the
// sink again. Nothing of it is kept.
func TestATopicThatWasPutBackUnderAWriter(t *testing.T) {
	for name, lines := range map[string][]string{
		"one partition":    nil,
		"three partitions": {"partitions = 3"},
	} {
		t.Run(name, func(t *testing.T) {
			server := servers.Kafka(t)
			d, secrets := target(t, server, lines...)
			units := sinktest.Units(18, 9)
			s, _ := open(t, d, secrets, sinktest.Opening(d, 1))
			require.NoError(t, s.Write(t.Context(), sinktest.Deliver(units[:3]...)))
			server.Kill()
			saved := t.TempDir()
			require.NoError(t, os.CopyFS(saved, os.DirFS(server.Dir)))
			server.Start()
			s, _ = open(t, d, secrets, sinktest.Opening(d, 2))
			require.NoError(t, s.Write(t.Context(), sinktest.Deliver(units[3:6]...)))

			server.Kill()
			require.NoError(t, os.RemoveAll(server.Dir))
			require.NoError(t, os.CopyFS(server.Dir, os.DirFS(saved)))
			server.Start()
			for _, next := range [][]sinktest.Unit{units[6:], nil} { // nil: a beat
				err := s.Write(t.Context(), sinktest.Deliver(next...))
				require.Equal(t, streams.Unreachable, streams.ClassOf(err), "%v", err)
			}

			again, c := open(t, d, secrets, sinktest.Opening(d, 3))
			require.Equal(t, units[2].Position(), c.Position)
			require.NoError(t, again.Write(t.Context(), sinktest.Deliver(units[3:]...)))
			_, c = open(t, d, secrets, sinktest.Opening(d, 4))
			require.Equal(t, units[len(units)-1].Position(), c.Position)
		})
	}
}
