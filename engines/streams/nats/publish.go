package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/coppice-go/coppice/engines/streams"
)

// The headers of JetStream.
const (
	expectedLast  = "Nats-Expected-Last-Sequence"
	batchID       = "Nats-Batch-Id"
	batchSequence = "Nats-Batch-Sequence"
	batchCommit   = "Nats-Batch-Commit"
)

// publish publishes one message behind the last one.
func (s *sink) publish(ctx context.Context, m *nats.Msg) error {
	m.Header.Set(expectedLast, strconv.FormatUint(s.last, 10))
	return s.request(ctx, m, 1)
}

// sendBatch publishes messages as one atomic batch behind the last one.
func (s *sink) sendBatch(ctx context.Context, list []*nats.Msg) error {
	if len(list) == 1 {
		return s.publish(ctx, list[0])
	}

	id := nats.NewInbox() // no other has it
	for i, m := range list {
		m.Header.Set(batchID, id)
		m.Header.Set(batchSequence, strconv.Itoa(i+1))
		if i == 0 {
			m.Header.Set(expectedLast, strconv.FormatUint(s.last, 10))
		}
		if i < len(list)-1 {
			if err := s.conn.nc.PublishMsg(m); err != nil {
				return err
			}
		}
	}
	last := list[len(list)-1]
	last.Header.Set(batchCommit, "1")

	return s.request(ctx, last, len(list))
}

// request publishes a message that completes n, waits for the answer, and moves the last sequence.
func (s *sink) request(ctx context.Context, m *nats.Msg, n int) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	answer, err := s.conn.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return err
	}

	var r struct {
		Error *jetstream.APIError `json:"error"`
		Seq   uint64              `json:"seq"`
	}
	if err := json.Unmarshal(answer.Data, &r); err != nil {
		return fmt.Errorf("the answer of the server: %w", err)
	}
	if r.Error != nil {
		return r.Error
	}
	if want := s.last + uint64(n); r.Seq != want {
		return fmt.Errorf("the server stored sequence %d, want %d", r.Seq, want)
	}
	s.last = r.Seq

	return nil
}

// window is how many messages are under way at once without a batch.
const window = 256

// sendEach publishes messages one by one behind the last one. They are under way together. Each
// names the one before it by its id, too: the sequence alone would be right by chance if another
// writer's message took the place of a message that was refused.
func (s *sink) sendEach(ctx context.Context, list []*nats.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()

	for len(list) > 0 {
		n := min(window, len(list))
		futures := make([]jetstream.PubAckFuture, 0, n)
		for i, m := range list[:n] {
			seq := s.last + uint64(i)
			options := []jetstream.PublishOpt{jetstream.WithExpectLastSequence(seq), jetstream.WithMsgID(s.id(seq + 1))}
			if i > 0 {
				options = append(options, jetstream.WithExpectLastMsgID(s.id(seq)))
			}
			f, err := s.conn.js.PublishMsgAsync(m, options...)
			if err != nil {
				return err
			}
			futures = append(futures, f)
		}

		for _, f := range futures {
			select {
			case <-f.Ok():
				s.last++
			case err := <-f.Err():
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		list = list[n:]
	}

	return nil
}

// id returns the id of this writer's message with a sequence.
func (s *sink) id(seq uint64) string { return fmt.Sprintf("%d-%d", s.opening.Epoch, seq) }

// isWrongSequence reports whether the server refused a message because another one came before.
func isWrongSequence(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// failed returns the error of a publication, with its class. If another message came before, it
// looks who wrote it.
func (s *sink) failed(ctx context.Context, err error) error {
	if !isWrongSequence(err) {
		return classify(err)
	}

	t, failed := s.tail(ctx, s.conn, s.stream)
	if failed != nil {
		return failed
	}
	if t.epoch > s.opening.Epoch {
		return fenced(s.opening.Epoch, t.epoch)
	}

	return streams.Fail(streams.Unreachable, fmt.Errorf("the stream is at sequence %d, and this writer knows %d: an "+
		"answer was lost", t.last, s.last))
}

// beatStream has one message of no content, which is replaced at each beat.
func (s *sink) beatStream() string { return s.keys.Stream + "-beat" }

func (s *sink) beatSubject() string { return s.keys.Subject + "-beat" }

// beat checks that the stream is where this writer left it, and shows a sign of life.
func (s *sink) beat(ctx context.Context) error {
	info, err := s.stream.Info(ctx)
	if err != nil {
		return classify(err)
	}
	if info.State.LastSeq != s.last {
		return s.failed(ctx, &jetstream.APIError{ErrorCode: jetstream.JSErrCodeStreamWrongLastSequence})
	}

	_, err = s.conn.js.Publish(ctx, s.beatSubject(), nil)
	if errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders) {
		_, err = s.conn.js.CreateStream(ctx, jetstream.StreamConfig{Name: s.beatStream(),
			Subjects: []string{s.beatSubject()}, MaxMsgs: 1, Storage: jetstream.MemoryStorage,
			Description: "signs of life of the writer of " + s.keys.Stream})
	}

	return classify(err)
}

// beats returns a number that changes with each beat.
func (s *sink) beats(ctx context.Context, conn *connection) uint64 {
	stream, err := conn.js.Stream(ctx, s.beatStream())
	if err != nil {
		return 0 // no beat yet
	}
	return stream.CachedInfo().State.LastSeq
}
