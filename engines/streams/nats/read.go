package nats

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/coppice-go/coppice/engines/streams"
)

// voids are the ranges of sequences whose events do not count.
type voids [][2]uint64

func (v voids) has(seq uint64) bool {
	for _, r := range v {
		if seq >= r[0] && seq < r[1] {
			return true
		}
	}
	return false
}

// Read reads the control messages first, and then the events that count, up to the last End.
func (s *sink) Read(ctx context.Context, from, to streams.Position, f func(streams.Event) error) error {
	return s.events(ctx, to, func(m stored) error {
		if m.event.Position.Compare(from) < 0 {
			return nil
		}
		return f(m.event)
	})
}

// events passes the messages of events that count, up to a position, in the order of their places.
func (s *sink) events(ctx context.Context, to streams.Position, f func(stored) error) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.close()
	stream, err := s.first(ctx, conn)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	} else if err != nil {
		return classify(err)
	}
	stream, t, err := s.follow(ctx, conn, stream, nil)
	if err != nil {
		return err
	}

	subject := s.subjectOf(stream.CachedInfo().Config.Name)
	var void voids
	var chunks []chunk
	err = s.each(ctx, conn, stream, subject+"."+controlKind, 0, t.last, func(m stored) error {
		switch c := m.control; {
		case c == nil:
		case c.Void != 0:
			void = append(void, [2]uint64{c.Void, m.seq})
		case c.Chunk != 0:
			chunks = append(chunks, chunk{c.Chunk, c.From, m.seq})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if t.partial != nil {
		void = append(void, [2]uint64{t.partial.From, t.last + 1})
	}

	for _, r := range inOrder(chunks, t.last) {
		err := s.each(ctx, conn, stream, subject+".>", r[0], r[1], func(m stored) error {
			if m.control != nil || void.has(m.seq) || m.event.Position.Compare(to) > 0 {
				return nil
			}
			return f(m)
		})
		if err != nil {
			return err
		}
	}

	return nil
}

// chunk is where a chunk of a bootstrap lies.
type chunk struct {
	number   int
	from, to uint64 // sequences
}

// inOrder returns the ranges of sequences to read, one after the other, so that the chunks of a
// bootstrap come in the order of their numbers. They come before all other events.
func inOrder(chunks []chunk, last uint64) (ranges [][2]uint64) {
	written := slices.IsSortedFunc(chunks, func(a, b chunk) int { return a.number - b.number })
	if written {
		return [][2]uint64{{0, last}}
	}

	slices.SortFunc(chunks, func(a, b chunk) int { return a.number - b.number })
	var end uint64
	for _, c := range chunks {
		ranges = append(ranges, [2]uint64{c.from, c.to})
		end = max(end, c.to)
	}
	return append(ranges, [2]uint64{end + 1, last})
}

// readAhead is how many bytes of messages a reader asks for at a time.
const readAhead = 8 << 20

// each passes the messages of a subject from one sequence (0: the first) up to another to f. A
// consumer that has fallen silent is replaced by another one, behind the last message.
func (s *sink) each(ctx context.Context, conn *connection, stream jetstream.Stream, subject string, first, last uint64,
	f func(stored) error,
) error {
	for silent := 0; ; {
		seen, err := s.run(ctx, conn, stream, subject, first, last, f)
		if !errors.Is(err, errSilent) {
			return err
		}
		if silent++; seen >= first && seen > 0 {
			first, silent = seen+1, 0
		}
		if silent == mostSilent {
			return streams.Fail(streams.Unreachable, fmt.Errorf("%w: from sequence %d on", err, first))
		}
	}
}

// errSilent: a consumer has messages to deliver and delivers none. It was seen once, on a machine
// with ten times more work than processors.
var errSilent = errors.New("the consumer of the stream delivers nothing")

const (
	silentAfter = 10 * time.Second
	mostSilent  = 3 // such consumers in a row
)

// run is one consumer of each. It returns the sequence of the last message that it passed.
//
// The client's iterator (Messages) has room for as many messages as it asks for, and none for the
// server's words between them: a reader that is slower than the server lost messages there, and
// began anew for each. Consume keeps what waits in a queue without that limit; what is asked for is
// bounded all the same.
func (s *sink) run(ctx context.Context, conn *connection, stream jetstream.Stream, subject string, first, last uint64,
	f func(stored) error,
) (seen uint64, err error) {
	if first > last {
		return 0, nil
	}
	config := jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}, MaxResetAttempts: resetAttempts}
	if first > 0 {
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, first
	}
	consumer, err := stream.OrderedConsumer(ctx, config)
	if err != nil {
		return 0, classify(err)
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return 0, classify(err)
	}
	if info.NumPending == 0 {
		return 0, nil
	}

	r := reading{left: info.NumPending, last: last, f: f, ended: make(chan error, 1)}
	// A server ends the connection of a reader for which it has to keep more than 64 MiB.
	room := max(readAhead, 2*int(conn.nc.MaxPayload()))
	consuming, err := consumer.Consume(r.take, jetstream.PullMaxMessagesWithBytesLimit(500, room),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			if errors.Is(err, jetstream.ErrConnectionClosed) || errors.Is(err, jetstream.ErrOrderedConsumerReset) {
				r.end(classify(err)) // the consumer overcomes all others by itself
			}
		}))
	if err != nil {
		return 0, classify(err)
	}
	defer consuming.Stop()

	look := time.NewTicker(silentAfter)
	defer look.Stop()
	for before := ^uint64(0); ; {
		select {
		case err := <-r.ended:
			return r.stop(), err
		case <-ctx.Done():
			return r.stop(), classify(context.Cause(ctx))
		case <-look.C:
			now, busy := r.progress()
			if !busy && now == before {
				return r.stop(), errSilent
			}
			before = now
		}
	}
}

// resetAttempts is how often in a row a reader tries to make its consumer anew.
const resetAttempts = 5

// reading is one run over the messages of a subject. The client calls take and end.
type reading struct {
	last  uint64
	f     func(stored) error
	ended chan error // gets one

	mu   sync.Mutex // held while f runs
	left uint64
	seen uint64 // sequence of the last message that was passed
	over bool
}

// take passes a message on, and ends the run with the last one.
func (r *reading) take(m jetstream.Msg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}

	done, err := r.pass(m)
	if meta, failed := m.Metadata(); failed == nil {
		r.seen = meta.Sequence.Stream
	}
	if r.left--; done || err != nil || r.left == 0 {
		r.over = true
		r.end(err)
	}
}

func (r *reading) pass(m jetstream.Msg) (done bool, err error) {
	meta, err := m.Metadata()
	if err != nil {
		return false, classify(err)
	}
	if meta.Sequence.Stream > r.last {
		return true, nil
	}

	parsed, err := parse(meta.Sequence.Stream, m.Headers(), m.Data())
	if err != nil {
		return false, err
	}

	return false, r.f(parsed)
}

// end ends the run, unless it has ended.
func (r *reading) end(err error) {
	select {
	case r.ended <- err:
	default:
	}
}

// progress returns the sequence of the last message, or that f is running.
func (r *reading) progress() (seen uint64, busy bool) {
	if !r.mu.TryLock() {
		return 0, true
	}
	defer r.mu.Unlock()
	return r.seen, false
}

// stop returns when f is not called any more, and the sequence of the last message.
func (r *reading) stop() (seen uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	return r.seen
}
