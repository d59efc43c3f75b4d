package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/coppice-go/coppice/engines/streams"
)

// topic is what a broker says of a topic.
type topic struct {
	exists     bool
	partitions int
	maxMessage int // bytes of a batch of records
	keeps      bool
}

// defaultMaxMessage is the limit of Kafka's defaults, if the broker does not tell its own.
const defaultMaxMessage = 1 << 20

// lookUp asks for the topic, and refuses one that would lose or change what is written to it.
func (s *sink) lookUp(ctx context.Context, client *kgo.Client) (t topic, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	admin := kadm.NewClient(client)

	details, err := admin.ListTopics(ctx, s.topic)
	if err != nil {
		return t, classify(err)
	}
	detail := details[s.topic]
	if errors.Is(detail.Err, kerr.UnknownTopicOrPartition) {
		return t, nil
	} else if detail.Err != nil {
		return t, classify(detail.Err)
	}
	t = topic{exists: true, partitions: len(detail.Partitions), maxMessage: defaultMaxMessage, keeps: true}

	configs, err := admin.DescribeTopicConfigs(ctx, s.topic)
	if err != nil {
		return t, classify(err)
	}
	for _, r := range configs {
		if r.Err != nil {
			return t, classify(r.Err)
		}
		for _, c := range r.Configs {
			if err := s.setting(&t, c.Key, c.MaybeValue()); err != nil {
				return t, err
			}
		}
	}

	if t.partitions != int(s.keys.Partitions) {
		return t, s.wrong("has %d partitions, and the definition says %d: order would not hold", t.partitions,
			s.keys.Partitions)
	}

	return t, nil
}

// setting reads a setting of the topic.
func (s *sink) setting(t *topic, key, value string) error {
	switch key {
	case "cleanup.policy":
		if strings.Contains(value, "compact") {
			return s.wrong("is compacted (cleanup.policy = %s): it would lose all but the newest event of a key", value)
		}
	case "max.message.bytes":
		n, err := strconv.Atoi(value)
		if err != nil {
			break
		}
		t.maxMessage = n
		if n < 4*envelopeRoom {
			return s.wrong("takes messages of %d bytes, want at least %d", n, 4*envelopeRoom)
		}
	case "retention.ms", "retention.bytes":
		t.keeps = t.keeps && value == "-1"
	}
	return nil
}

func (s *sink) wrong(format string, args ...any) error {
	return streams.Fail(streams.Misconfigured, fmt.Errorf("topic %s %s", s.topic, fmt.Sprintf(format, args...)))
}

// makeTopic makes the topic unless it is there, and returns it.
func (s *sink) makeTopic(ctx context.Context, client *kgo.Client) (topic, error) {
	t, err := s.lookUp(ctx, client)
	if err != nil || t.exists {
		return t, err
	}

	forEver := "-1"
	_, err = kadm.NewClient(client).CreateTopic(ctx, s.keys.Partitions, s.keys.Replicas,
		map[string]*string{"retention.ms": &forEver, "retention.bytes": &forEver}, s.topic)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return t, classify(err)
	}

	for { // a broker may learn of the topic later than the one that made it
		t, err = s.lookUp(ctx, client)
		if err != nil || t.exists {
			return t, err
		}
		select {
		case <-ctx.Done():
			return t, streams.Fail(streams.Unreachable, fmt.Errorf("topic %s was made and is not there yet: %w",
				s.topic, ctx.Err()))
		case <-time.After(metadataAge):
		}
	}
}
