package kafka

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
	"github.com/coppice-go/coppice/internal/servers"
)

// Items 6, 9, 11, 27, 44, 48 and 72, on a broker that is killed: with one partition, and with
// several in protobuf.
func TestTheKafkaSinkKeepsTheContract(t *testing.T) {
	server := servers.Kafka(t)
	for name, lines := range map[string][]string{
		"one partition":    nil,
		"three partitions": {"partitions = 3", `format = "protobuf"`},
	} {
		t.Run(name, func(t *testing.T) {
			every := sinktest.Thinned(3)
			if len(lines) > 0 {
				every = sinktest.Thinned(15)
			}
			sinktest.Run(t, Factory(), sinktest.Rig{Every: every, Target: func(t testing.TB) sinktest.Target {
				d, secrets := target(t, server, lines...)
				rig := sinktest.Target{Definition: d, Secrets: secrets,
					Kill: func() error { server.Kill(); return server.TryStart() }}
				if len(lines) == 0 {
					rig.Damage = damage(server, d)
				}
				return rig
			}})
		})
	}
}

// damage writes a topic again with a fault in it, as somebody could who has the rights.
func damage(s *servers.Server, d streams.Definition) map[streams.Fault]func() error {
	return map[streams.Fault]func() error{
		streams.FaultLost: rewrite(s, d, func(l []*kgo.Record, i int) []*kgo.Record {
			return append(l[:i:i], l[i+1:]...)
		}),
		streams.FaultDoubled: rewrite(s, d, func(l []*kgo.Record, i int) []*kgo.Record {
			return append(l[:i+1:i+1], l[i:]...)
		}),
		streams.FaultSwapped: rewrite(s, d, func(l []*kgo.Record, i int) []*kgo.Record {
			l[i], l[i-1] = l[i-1], l[i]
			return l
		}),
		streams.FaultChanged: rewrite(s, d, func(l []*kgo.Record, i int) []*kgo.Record {
			l[i] = edited(l[i], func(e *streams.Event) { e.Body.(*streams.Outcome).Code = 77 })
			return l
		}),
		streams.FaultForeign: rewrite(s, d, func(l []*kgo.Record, i int) []*kgo.Record {
			extra := edited(l[i], func(e *streams.Event) { e.Height = 3 }) // which has no block
			return append(append(l[:i+1:i+1], extra), l[i+1:]...)
		}),
	}
}

// edited returns a copy of a record with another event.
func edited(r *kgo.Record, edit func(*streams.Event)) *kgo.Record {
	m, err := parse(r)
	if err != nil {
		panic(err)
	}
	edit(&m.event)
	c := *r
	c.Value = streams.AppendJSON(nil, m.event)

	return &c
}

// rewrite returns a function that reads a topic, changes its records by edit, and makes it anew.
// edit gets the number of the outcome of a transaction after height 2.
func rewrite(s *servers.Server, d streams.Definition, edit func([]*kgo.Record, int) []*kgo.Record) func() error {
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		made, err := Factory().New(d, streams.Secrets{})
		if err != nil {
			return err
		}
		own := made.(*sink)
		c, err := kgo.NewClient(kgo.SeedBrokers(s.Addr), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err != nil {
			return err
		}
		defer c.Close()
		places, err := own.offsets(ctx, c)
		if err != nil {
			return err
		}

		var list []*kgo.Record
		outcome := -1
		err = own.consume(ctx, c, 0, places[0].start, places[0].end, func(m stored) error {
			if m.control == nil && m.event.Body.Kind() == streams.KindOutcome && m.event.Height > 2 && outcome < 0 {
				outcome = len(list)
			}
			r := m.record
			list = append(list, &kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: r.Headers})
			return nil
		})
		if err != nil {
			return err
		}
		if outcome < 0 {
			return errors.New("there is no outcome")
		}

		admin := kadm.NewClient(c)
		if _, err := admin.DeleteTopic(ctx, own.keys.Topic); err != nil {
			return err
		}
		if _, err := admin.CreateTopic(ctx, 1, 1, nil, own.keys.Topic); err != nil {
			return err
		}
		c.PurgeTopicsFromClient(own.keys.Topic)

		return c.ProduceSync(ctx, edit(list, outcome)...).FirstErr()
	}
}
