package kafka

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
	"github.com/coppice-go/coppice/internal/servers"
)

// Item 55: beside a client that sends the same records in a transaction, on kfake.
func BenchmarkKafka(b *testing.B) {
	server := servers.Kafka(b)
	for _, changes := range []int{100, 1000, 5000} {
		b.Run(fmt.Sprint(changes), func(b *testing.B) {
			d, secrets := target(b, server)
			s, _ := open(b, d, secrets, sinktest.Opening(d, 1))
			topic := "plain-" + d.Name
			c := client(b, server, kgo.TransactionalID(topic), kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(0))
			_, err := kadm.NewClient(client(b, server)).CreateTopic(b.Context(), 1, 1, nil, topic)
			require.NoError(b, err)

			sinktest.Compare(b, 0.8, sinktest.Blocks(b.N, changes),
				func(u sinktest.Unit) error { return s.Write(b.Context(), sinktest.Feed(u)) },
				func(u sinktest.Unit) error {
					if err := c.BeginTransaction(); err != nil {
						return err
					}
					var failed error
					for _, e := range u {
						c.Produce(b.Context(), &kgo.Record{Key: e.Key(), Value: streams.AppendJSON(nil, e)},
							func(_ *kgo.Record, err error) {
								if err != nil {
									failed = err
								}
							})
					}
					if err := c.Flush(b.Context()); err != nil {
						return err
					}
					if failed != nil {
						return failed
					}
					return c.EndTransaction(b.Context(), kgo.TryCommit)
				})
		})
	}
}
