package nats

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
	"github.com/coppice-go/coppice/internal/servers"
)

// Item 55: beside a client that sends the same bodies in an atomic batch, and beside the recipe for
// old servers done in the simplest way, message by message.
func BenchmarkNATS(b *testing.B) {
	server := servers.NATS(b)
	for _, changes := range []int{100, 990} {
		for _, kind := range []string{"batch", "single"} {
			if kind == "single" && changes == 100 {
				continue
			}
			b.Run(fmt.Sprintf("%d/%s", changes, kind), func(b *testing.B) {
				d, secrets := target(b, server)
				s, _ := open(b, d, secrets, sinktest.Opening(d, 1))
				js, err := connectTo(server)
				require.NoError(b, err)
				defer js.Conn().Close()
				name := fmt.Sprintf("plain-%s-%d", d.Name, changes)
				_, err = js.CreateStream(b.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name},
					AllowAtomicPublish: true})
				require.NoError(b, err)

				plain, want := plainBatch, 0.8
				if kind == "single" {
					plain, want = plainSingle, 10
				}
				sinktest.Compare(b, want, sinktest.Blocks(b.N, changes),
					func(u sinktest.Unit) error { return s.Write(b.Context(), sinktest.Feed(u)) },
					func(u sinktest.Unit) error { return plain(b, js, name, u) })
			})
		}
	}
}

func plainBatch(b *testing.B, js jetstream.JetStream, subject string, u sinktest.Unit) error {
	id := nats.NewInbox()
	for i, e := range u {
		m := nats.NewMsg(subject)
		m.Data = streams.AppendJSON(nil, e)
		m.Header.Set(batchID, id)
		m.Header.Set(batchSequence, strconv.Itoa(i+1))
		if i < len(u)-1 {
			if err := js.Conn().PublishMsg(m); err != nil {
				return err
			}
			continue
		}
		m.Header.Set(batchCommit, "1")
		if _, err := js.PublishMsg(b.Context(), m); err != nil {
			return err
		}
	}
	return nil
}

func plainSingle(b *testing.B, js jetstream.JetStream, subject string, u sinktest.Unit) error {
	for _, e := range u {
		if _, err := js.Publish(b.Context(), subject, streams.AppendJSON(nil, e),
			jetstream.WithMsgID(fmt.Sprint(e.Height, e.Index))); err != nil {
			return err
		}
	}
	return nil
}
