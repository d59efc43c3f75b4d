package kafka

import (
	"context"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/coppice-go/coppice/engines/streams"
)

// sink implements streams.Sink.
type sink struct {
	keys       keys
	secrets    streams.Secrets
	definition streams.Definition

	topic      string // of the keys, or of a later generation
	opening    streams.Opening
	producer   *kgo.Client
	maxMessage int
	at         streams.Cursor   // of the partition that is furthest behind
	stand      []streams.Cursor // of each partition
	taken      ends             // since the claim
	broken     error            // why the sink must be opened again

	generation *generation // that is being filled; nil: none

	observing sync.Mutex
	observer  *kgo.Client
}

// Open fences older writers at the broker, commits a claim to each partition, and reads back from
// there what the partition holds. Read before the claim, it might be less than what comes to be
// there. A topic that has moved leads to the next one.
func (s *sink) Open(ctx context.Context, o streams.Opening) (streams.Cursor, error) {
	s.opening = o
	for {
		moved, err := s.open(ctx, o)
		if err != nil {
			return streams.Cursor{}, err
		}
		if moved == "" {
			return s.cursor(ctx)
		}
		s.topic = moved
	}
}

// cursor returns where the sink stands as the writer's cursor.
func (s *sink) cursor(ctx context.Context) (streams.Cursor, error) {
	now, err := s.offsets(ctx, s.producer)
	if err != nil {
		return streams.Cursor{}, err
	}
	c := s.at
	c.Epoch, c.Native = s.opening.Epoch, s.native(now, s.at)
	return c, nil
}

// open is Open for one topic. It returns the topic that has taken its place, if there is one.
func (s *sink) open(ctx context.Context, o streams.Opening) (moved string, err error) {
	s.taken = ends{}
	if err := s.connect(ctx); err != nil {
		return "", err
	}

	before, err := s.tails(ctx, s.producer)
	if err != nil {
		return "", err
	}
	if moved := s.movedTo(before); moved != "" {
		return moved, nil
	}
	if epoch := newest(before); epoch >= o.Epoch {
		return "", fenced(o.Epoch, epoch)
	}
	if err := s.settle(before, func(p int) int64 { return before[p].end }); err != nil {
		return "", err
	}

	claims, err := s.claim(ctx)
	if err != nil {
		return "", s.failed(ctx, err)
	}

	places, err := s.offsets(ctx, s.producer)
	if err != nil {
		return "", err
	}
	for p := range places {
		places[p].end = claims[p]
		if err := s.readBack(ctx, s.producer, int32(p), &places[p]); err != nil {
			return "", err
		}
	}
	if moved := s.movedTo(places); moved != "" { // between the look and the claim
		return moved, nil
	}
	if epoch := newest(places); epoch >= o.Epoch { // it came between the look and the claim
		return "", fenced(o.Epoch, epoch)
	}
	if err := s.settled(ctx, places, before); err != nil {
		return "", err
	}

	s.stand = make([]streams.Cursor, len(places))
	for p := range places {
		s.stand[p] = places[p].cursor
	}
	s.at = lowest(places)

	return "", nil
}

// connect makes the producer and looks the topic up.
func (s *sink) connect(ctx context.Context) error {
	if s.producer != nil {
		s.producer.Close()
		s.producer = nil
	}
	client, err := s.client()
	if err != nil {
		return err
	}
	if err := s.reach(ctx, client); err != nil {
		client.Close()
		return err
	}
	t, err := s.makeTopic(ctx, client)
	client.Close()
	if err != nil {
		return err
	}

	s.maxMessage = t.maxMessage
	s.producer, err = s.client(kgo.TransactionalID("coppice-"+s.keys.Topic), kgo.TransactionTimeout(transactionTime),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(linger),
		kgo.RecordDeliveryTimeout(transactionTime), kgo.MaxBufferedBytes(maxBytes+t.maxMessage),
		kgo.MaxBufferedRecords(2*maxRecords), kgo.ProducerBatchMaxBytes(int32(t.maxMessage)))

	return err
}

// claim fences older writers and commits a claim to each partition, of which it returns the
// offsets.
func (s *sink) claim(ctx context.Context) ([]int64, error) {
	records := s.controlRecords("claim")
	if err := s.commit(ctx, records); err != nil {
		return nil, err
	}

	offsets := make([]int64, len(records))
	for p, r := range records {
		offsets[p] = r.Offset
	}

	return offsets, nil
}

// controlRecords returns a control record for each partition.
func (s *sink) controlRecords(what string) (records []*kgo.Record) {
	for p := range s.keys.Partitions {
		records = append(records, s.controlRecord(p, what, nil))
	}
	return records
}

// commit commits a few records as a transaction.
func (s *sink) commit(ctx context.Context, records []*kgo.Record) error {
	ctx, cancel := context.WithTimeout(ctx, transactionTime)
	defer cancel()
	if err := s.producer.BeginTransaction(); err != nil {
		return err
	}
	err := s.producer.ProduceSync(ctx, records...).FirstErr()
	for _, r := range records {
		err = firstOf(err, s.taken.take(r))
	}
	if err != nil {
		s.abort()
		return err
	}

	return s.producer.EndTransaction(ctx, kgo.TryCommit)
}

// settled gives partitions whose tail is gone the cursor that the slot has saved, and writes it to
// them, so that later claims find it there.
func (s *sink) settled(ctx context.Context, places, before []place) error {
	known := make([]bool, len(places))
	for p := range places {
		known[p] = places[p].known
	}
	if err := s.settle(places, func(p int) int64 { return before[p].end }); err != nil {
		return err
	}

	var records []*kgo.Record
	for p := range places {
		if places[p].known && !known[p] {
			records = append(records, s.controlRecord(int32(p), "place", &places[p].cursor))
		}
	}
	if len(records) == 0 {
		return nil
	}
	if err := s.commit(ctx, records); err != nil {
		return s.failed(ctx, err)
	}

	return nil
}

// Observe reads the ends of the partitions.
func (s *sink) Observe(ctx context.Context) (streams.Cursor, error) {
	s.observing.Lock()
	defer s.observing.Unlock()

	if s.observer == nil {
		client, err := s.client()
		if err != nil {
			return streams.Cursor{}, err
		}
		s.observer = client
	}
	if err := s.reach(ctx, s.observer); err != nil {
		return streams.Cursor{}, err
	}

	now, places, err := s.follow(ctx, s.observer, nil)
	if err != nil || now == nil {
		return streams.Cursor{}, err
	}
	if err := now.settle(places, func(p int) int64 { return places[p].end }); err != nil {
		return streams.Cursor{}, err
	}

	c := lowest(places)
	c.Epoch, c.Native = newest(places), now.native(places, c)
	c.Beat = 0
	for _, p := range places {
		c.Beat += uint64(p.end)
	}

	return c, nil
}

// Limits implements streams.Limiter.
func (s *sink) Limits(ctx context.Context) (streams.Limits, error) {
	if s.maxMessage > 0 {
		return s.limits(s.maxMessage), nil
	}

	client, err := s.client()
	if err != nil {
		return streams.Limits{}, err
	}
	defer client.Close()
	if err := s.reach(ctx, client); err != nil {
		return streams.Limits{}, err
	}
	t, err := s.lookUp(ctx, client)
	if err != nil {
		return streams.Limits{}, err
	}
	if !t.exists {
		t.maxMessage = defaultMaxMessage
	}

	return s.limits(t.maxMessage), nil
}

// Close ends the connections. An open transaction is aborted by the next claim.
func (s *sink) Close(context.Context) error {
	if s.producer != nil {
		s.producer.Close()
	}
	s.observing.Lock()
	defer s.observing.Unlock()
	if s.observer != nil {
		s.observer.Close()
		s.observer = nil
	}

	return nil
}

// Check says what would hinder the sink.
func (s *sink) Check(ctx context.Context) (notes []string, err error) {
	client, err := s.client()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if err := s.reach(ctx, client); err != nil {
		return nil, err
	}

	t, err := s.lookUp(ctx, client)
	switch {
	case err != nil:
		return nil, err
	case !t.exists:
		notes = append(notes, "the topic "+s.keys.Topic+" will be made")
	case !t.keeps:
		notes = append(notes, "the topic removes old records (retention): without its last ones, the sink must be "+
			"rebuilt")
	}

	return notes, nil
}

// Forget deletes the topic and its generations.
func (s *sink) Forget(ctx context.Context) error {
	client, err := s.client()
	if err != nil {
		return err
	}
	defer client.Close()

	names, err := s.generations(ctx, client)
	if err != nil {
		return err
	}
	t, err := s.on(s.keys.Topic).lookUp(ctx, client)
	if err != nil {
		return err
	}
	if t.exists {
		names = append(names, s.keys.Topic)
	}
	for _, name := range names {
		if _, err := kadm.NewClient(client).DeleteTopic(ctx, name); err != nil {
			return classify(err)
		}
	}

	return nil
}

// Preview shows the record of an event.
func (s *sink) Preview(e streams.Event) (string, error) {
	return fmt.Sprintf("%s partition %d key %q %s", s.keys.Topic, s.partition(e), e.Key(),
		streams.AppendJSON(nil, e)), nil
}

// fenced returns the error of a writer whose claim is no longer the newest.
func fenced(own, newest uint64) error {
	return streams.Fail(streams.Fenced, fmt.Errorf("epoch %d writes to the sink, this is epoch %d", newest, own))
}
