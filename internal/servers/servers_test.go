package servers_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/coppice-go/coppice/internal/servers"
)

// Each server keeps what it acknowledged over a SIGKILL, on the same port.
func TestPostgresComesBack(t *testing.T) {
	s := servers.Postgres(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	exec := func(sql string) (n int) {
		t.Helper()
		c, err := pgx.Connect(ctx, servers.PostgresURL(s, "postgres"))
		require.NoError(t, err)
		defer c.Close(ctx)
		require.NoError(t, c.QueryRow(ctx, sql).Scan(&n))
		return n
	}
	require.Equal(t, 1, exec("with t as (select 1) select * from t"))
	c, err := pgx.Connect(ctx, servers.PostgresURL(s, "postgres"))
	require.NoError(t, err)
	_, err = c.Exec(ctx, "create table t as select 7 as n")
	require.NoError(t, err)

	s.Kill()
	s.Start()
	require.Equal(t, 7, exec("select n from t"))
}

func TestNATSComesBack(t *testing.T) {
	s := servers.NATS(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	nc, err := natsgo.Connect(s.Addr, natsgo.ReconnectWait(10*time.Millisecond), natsgo.MaxReconnects(-1))
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "s", Subjects: []string{"s"}})
	require.NoError(t, err)
	_, err = js.Publish(ctx, "s", []byte("a"))
	require.NoError(t, err)

	s.Kill()
	s.Start()
	stream, err := js.Stream(ctx, "s")
	for err != nil && ctx.Err() == nil {
		stream, err = js.Stream(ctx, "s")
	}
	require.NoError(t, err)
	require.EqualValues(t, 1, stream.CachedInfo().State.Msgs)
}

func TestKafkaComesBack(t *testing.T) {
	s := servers.Kafka(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	client, err := kgo.NewClient(kgo.SeedBrokers(s.Addr), kgo.DefaultProduceTopic("t"))
	require.NoError(t, err)
	defer client.Close()
	admin := kadm.NewClient(client)
	_, err = admin.CreateTopic(ctx, 1, 1, nil, "t")
	require.NoError(t, err)
	require.NoError(t, client.ProduceSync(ctx, kgo.StringRecord("a")).FirstErr())

	s.Kill()
	s.Start()
	ends, err := admin.ListEndOffsets(ctx, "t")
	require.NoError(t, err)
	end, ok := ends.Lookup("t", 0)
	require.True(t, ok)
	require.EqualValues(t, 1, end.Offset)
}

// A crash of kfake between a batch of a transaction and its entry in the index makes nothing
// visible that was never committed.
func TestKafkaForgetsATornBatch(t *testing.T) {
	s := servers.Kafka(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	client, err := kgo.NewClient(kgo.SeedBrokers(s.Addr), kgo.DefaultProduceTopic("t"), kgo.TransactionalID("x"))
	require.NoError(t, err)
	defer client.Close()
	_, err = kadm.NewClient(client).CreateTopic(ctx, 1, 1, nil, "t")
	require.NoError(t, err)
	require.NoError(t, client.BeginTransaction())
	require.NoError(t, client.ProduceSync(ctx, kgo.StringRecord("a")).FirstErr())
	s.Kill()

	indexes, err := filepath.Glob(filepath.Join(s.Dir, "partitions", "*", "*.idx"))
	require.NoError(t, err)
	require.Len(t, indexes, 1)
	require.NoError(t, os.Truncate(indexes[0], 0))

	s.Start()
	reader, err := kgo.NewClient(kgo.SeedBrokers(s.Addr))
	require.NoError(t, err)
	defer reader.Close()
	ends, err := kadm.NewClient(reader).ListEndOffsets(ctx, "t")
	require.NoError(t, err)
	end, ok := ends.Lookup("t", 0)
	require.True(t, ok)
	require.Zero(t, end.Offset)
}
