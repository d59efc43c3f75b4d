package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// mend gives each transaction that a crash has left open the marker of an abort. Kafka's
// coordinator does so when it comes back. kfake only treats the records as aborted; without a
// marker, clients drop what the same producer writes next, and kfake itself takes the producer's
// next commit for theirs once it is started again.
func mend(dir string) error {
	c, err := kfake.NewCluster(kfake.Ports(0), kfake.DataDir(dir), kfake.SyncWrites())
	if err != nil {
		return err
	}
	defer c.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		return err
	}
	defer client.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	topics, err := kadm.NewClient(client).ListTopics(ctx)
	if err != nil {
		return err
	}
	for _, t := range topics {
		for _, p := range t.Partitions {
			open, err := openTransactions(ctx, client, t, p)
			if err != nil {
				return fmt.Errorf("topic %s, partition %d: %w", t.Topic, p.Partition, err)
			}
			for pid, epoch := range open {
				if err := abort(ctx, client, t.Topic, p, pid, epoch); err != nil {
					return err
				}
			}
		}
	}

	return nil
}

// openTransactions returns the producers, with their epochs, whose last transaction has no marker.
func openTransactions(ctx context.Context, client *kgo.Client, t kadm.TopicDetail, p kadm.PartitionDetail,
) (map[int64]int16, error) {
	admin := kadm.NewClient(client)
	starts, err := admin.ListStartOffsets(ctx, t.Topic)
	if err != nil {
		return nil, err
	}
	ends, err := admin.ListEndOffsets(ctx, t.Topic)
	if err != nil {
		return nil, err
	}
	start, _ := starts.Lookup(t.Topic, p.Partition)
	end, _ := ends.Lookup(t.Topic, p.Partition)

	open := map[int64]int16{}
	for offset := start.Offset; offset < end.Offset; {
		part := kmsg.NewFetchRequestTopicPartition()
		part.Partition, part.FetchOffset, part.PartitionMaxBytes = p.Partition, offset, 1<<20
		topic := kmsg.NewFetchRequestTopic()
		topic.Topic, topic.TopicID = t.Topic, t.ID
		topic.Partitions = append(topic.Partitions, part)
		request := kmsg.NewPtrFetchRequest()
		request.MaxBytes, request.SessionEpoch = 1<<20, -1
		request.Topics = append(request.Topics, topic)
		answer, err := client.Broker(int(p.Leader)).Request(ctx, request)
		if err != nil {
			return nil, err
		}

		got := answer.(*kmsg.FetchResponse).Topics[0].Partitions[0]
		if err := kerr.ErrorForCode(got.ErrorCode); err != nil {
			return nil, err
		}
		for raw := got.RecordBatches; len(raw) > 12; {
			size := 12 + int(binary.BigEndian.Uint32(raw[8:]))
			if size > len(raw) {
				break
			}
			var b kmsg.RecordBatch
			if err := b.ReadFrom(raw[:size]); err != nil {
				return nil, err
			}
			raw = raw[size:]
			offset = b.FirstOffset + int64(b.LastOffsetDelta) + 1

			const transactional, control = 1 << 4, 1 << 5
			switch {
			case b.Attributes&control != 0:
				delete(open, b.ProducerID)
			case b.Attributes&transactional != 0:
				open[b.ProducerID] = b.ProducerEpoch
			}
		}
	}

	return open, nil
}

// abort writes the marker of an abort.
func abort(ctx context.Context, client *kgo.Client, name string, p kadm.PartitionDetail, pid int64, epoch int16) error {
	topic := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
	topic.Topic, topic.Partitions = name, []int32{p.Partition}
	marker := kmsg.NewWriteTxnMarkersRequestMarker()
	marker.ProducerID, marker.ProducerEpoch = pid, epoch
	marker.Topics = append(marker.Topics, topic)
	request := kmsg.NewPtrWriteTxnMarkersRequest()
	request.Markers = append(request.Markers, marker)
	_, err := client.Broker(int(p.Leader)).Request(ctx, request)

	return err
}
