package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/coppice-go/coppice/engines/streams"
)

// The sizes of a fetch, in bytes, and how long the broker may wait for the first record.
const (
	fetchPartition = 1 << 20
	fetchBytes     = 4 << 20
	fetchWait      = 200 // milliseconds
)

// consume passes the committed records of a partition, from one offset up to another, to f. It
// fetches by itself: a consumer of the client does not tell how far it is read when the last
// records belong to a transaction that was aborted.
func (s *sink) consume(ctx context.Context, client *kgo.Client, partition int32, from, to int64,
	f func(stored) error,
) error {
	if from >= to {
		return nil
	}
	details, err := kadm.NewClient(client).ListTopics(ctx, s.topic)
	if err != nil {
		return classify(err)
	}
	detail := details[s.topic]
	if err := firstOf(detail.Err, detail.Partitions[partition].Err); err != nil {
		return classify(err)
	}

	broker := client.Broker(int(detail.Partitions[partition].Leader))
	for from < to {
		records, next, err := s.fetch(ctx, broker, detail.ID, partition, from)
		if err != nil {
			return classify(err)
		}
		for _, r := range records {
			if r.Offset >= to {
				break
			}
			m, err := parse(r)
			if err != nil {
				return err
			}
			if err := f(m); err != nil {
				return err
			}
		}
		from = next
	}

	return nil
}

// fetch returns the committed records of a partition at an offset, and the offset behind what it
// has read.
func (s *sink) fetch(ctx context.Context, broker *kgo.Broker, id kadm.TopicID, partition int32, offset int64,
) ([]*kgo.Record, int64, error) {
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = partition, offset, fetchPartition
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = s.topic, id
	topic.Partitions = append(topic.Partitions, p)
	request := kmsg.NewPtrFetchRequest()
	request.MaxWaitMillis, request.MinBytes, request.MaxBytes = fetchWait, 1, fetchBytes
	request.IsolationLevel, request.SessionEpoch = 1, -1
	request.Topics = append(request.Topics, topic)

	answer, err := broker.RetriableRequest(ctx, request)
	if err != nil {
		return nil, offset, err
	}
	response, ok := answer.(*kmsg.FetchResponse)
	if !ok || len(response.Topics) != 1 || len(response.Topics[0].Partitions) != 1 {
		return nil, offset, streams.Fail(streams.Unreachable, fmt.Errorf("the broker's answer to a fetch is not of "+
			"partition %d", partition))
	}
	part := &response.Topics[0].Partitions[0]
	if err := firstOf(kerr.ErrorForCode(response.ErrorCode), kerr.ErrorForCode(part.ErrorCode)); err != nil {
		return nil, offset, err
	}

	fetched, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Offset: offset,
		IsolationLevel: kgo.ReadCommitted(), Topic: s.topic, Partition: partition}, part,
		kgo.DefaultDecompressor(), nil)

	return fetched.Records, next, fetched.Err
}
