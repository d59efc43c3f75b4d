package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/coppice-go/coppice/engines/streams"
)

// Write writes the units of d, one or several in a transaction.
func (s *sink) Write(ctx context.Context, d streams.Delivery) error {
	if s.broken != nil {
		return s.broken
	}

	return streams.InBatches(ctx, d, s.beat, s.transaction)
}

// beat commits a control record: an older writer is fenced by it, and others see it.
func (s *sink) beat(ctx context.Context) error {
	var at *streams.Cursor
	if !s.stand[0].Empty() {
		at = &s.stand[0]
	}
	if err := s.commit(ctx, []*kgo.Record{s.controlRecord(0, "place", at)}); err != nil {
		return s.failed(ctx, err)
	}

	return nil
}

// transaction writes units of d, of which first is the first event, until they are enough.
func (s *sink) transaction(ctx context.Context, d streams.Delivery, first streams.Event) error {
	t := &transaction{sink: s, delivery: d, at: s.at, tails: append([]streams.Cursor(nil), s.stand...)}
	if err := s.producer.BeginTransaction(); err != nil {
		return s.failed(ctx, err)
	}

	if err := t.fill(ctx, first); err != nil {
		s.abort()
		return err
	}
	err := s.producer.Flush(ctx)
	if err == nil {
		err = t.failure()
	}
	if err != nil {
		s.abort()
		return s.failed(ctx, err)
	}

	if err := s.end(ctx); err != nil {
		return s.failed(ctx, err)
	}
	s.at, s.stand = t.at, t.tails

	return nil
}

// end commits the transaction under way.
func (s *sink) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, transactionTime)
	defer cancel()
	return s.producer.EndTransaction(ctx, kgo.TryCommit)
}

// abortTime bounds an abort. If it fails, the next claim aborts.
const abortTime = 5 * time.Second

// abort ends the transaction under way, whatever has become of the caller's context.
func (s *sink) abort() {
	ctx, cancel := context.WithTimeout(context.Background(), abortTime)
	defer cancel()
	if s.producer.AbortBufferedRecords(ctx) == nil {
		_ = s.producer.EndTransaction(ctx, kgo.TryAbort) // the next claim does it otherwise
	}
}

// failed returns the error of the producer, with its class. After it the sink must be opened again.
// If another producer came, it looks who that was.
func (s *sink) failed(ctx context.Context, err error) error {
	if !isFenced(err) {
		s.broken = classify(err)
		return s.broken
	}

	client, failed := s.client()
	if failed != nil {
		return failed
	}
	defer client.Close()
	_, places, failed := s.follow(ctx, client, nil)
	switch {
	case failed != nil:
		s.broken = failed
	case newest(places) > s.opening.Epoch:
		s.broken = fenced(s.opening.Epoch, newest(places))
	default: // a claim with a lower epoch came between, which has withdrawn
		s.broken = streams.Fail(streams.Unreachable, fmt.Errorf("the broker has given up the transaction: %w", err))
	}

	return s.broken
}

// transaction takes units from a delivery.
type transaction struct {
	*sink
	delivery streams.Delivery

	at     streams.Cursor
	tails  []streams.Cursor
	unit   streams.Position
	inUnit bool
	count  int
	bytes  int

	mu  sync.Mutex
	err error // the first of the broker
}

// fill produces records until the transaction has enough.
func (t *transaction) fill(ctx context.Context, e streams.Event) (err error) {
	for {
		if err := t.take(ctx, e); err != nil {
			return err
		}
		t.delivery.Credit(e.Size())
		if !t.inUnit && (t.count >= maxRecords || t.bytes >= maxBytes) {
			return nil
		}

		e, err = t.delivery.Next(ctx)
		if errors.Is(err, io.EOF) && t.inUnit {
			return fmt.Errorf("the delivery ends inside height %s", t.unit)
		} else if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// take produces the records of an event for the partitions that lack it.
func (t *transaction) take(ctx context.Context, e streams.Event) error {
	end, isEnd := e.Body.(*streams.End)
	t.unit, t.inUnit = e.Position, !isEnd
	if !t.at.Empty() && e.Position.Compare(t.at.Position) <= 0 {
		return nil
	}
	if !isEnd {
		return t.produce(ctx, e, t.partition(e))
	}

	if rests := end.After == nil && t.at.Empty() ||
		end.After != nil && !t.at.Empty() && *end.After == t.at.Position; !rests {
		return streams.Fail(streams.BadOrder, fmt.Errorf("height %s does not rest on the sink's cursor, which is %s",
			e.Position, t.at))
	}
	for p := range t.tails {
		if err := t.produce(ctx, e, int32(p)); err != nil {
			return err
		}
	}

	t.at = t.opening.Cursor(e).Clone()
	for p := range t.tails {
		if t.tails[p].Empty() || t.tails[p].Position.Compare(t.at.Position) < 0 {
			t.tails[p] = t.at
		}
	}

	return nil
}

// produce hands a record to the client, unless the partition has it.
func (t *transaction) produce(ctx context.Context, e streams.Event, partition int32) error {
	if tail := t.tails[partition]; !tail.Empty() && e.Position.Compare(tail.Position) <= 0 {
		return nil
	}

	r, err := t.record(e, partition)
	if err != nil {
		return err
	}
	return t.send(ctx, r)
}

// send hands a record to the client.
func (t *transaction) send(ctx context.Context, r *kgo.Record) error {
	t.count, t.bytes = t.count+1, t.bytes+len(r.Value)+len(r.Key)
	t.sink.producer.Produce(ctx, r, func(r *kgo.Record, err error) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.err = firstOf(t.err, err)
		if err == nil {
			t.err = firstOf(t.err, t.sink.taken.take(r))
		}
	})

	if err := t.failure(); err != nil {
		return t.failed(ctx, err)
	}

	return nil
}

func (t *transaction) failure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}
