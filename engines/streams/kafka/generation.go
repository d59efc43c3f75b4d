package kafka

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/coppice-go/coppice/engines/streams"
)

// generationMark is in the names of the topics of later generations. No name of a slot has it.
const generationMark = "-GEN-"

// on returns a sink for looks at another topic. It has no producer.
func (s *sink) on(topic string) *sink {
	return &sink{keys: s.keys, secrets: s.secrets, definition: s.definition, opening: s.opening, topic: topic}
}

// follow returns a sink on the topic that has the data now, and the ends of its partitions: a topic
// that ends with a moved event names the one that has taken its place. It returns nil if there is
// none yet. seen gets the names of all topics on the way.
func (s *sink) follow(ctx context.Context, client *kgo.Client, seen map[string]bool) (*sink, []place, error) {
	now, from := s.on(s.keys.Topic), ""
	for {
		if seen != nil {
			seen[now.topic] = true
		}
		t, err := now.lookUp(ctx, client)
		if err != nil {
			return nil, nil, err
		}
		n := s.known()
		switch {
		case t.exists:
		case from != "":
			return nil, nil, streams.Fail(streams.Misconfigured, fmt.Errorf("topic %s has moved to %s, which is gone: "+
				"rebuild the sink under another topic", from, now.topic))
		case n.Topic != "":
			from, now = now.topic, s.on(n.Topic)
			continue
		default:
			return nil, nil, nil
		}

		places, err := now.tails(ctx, client)
		if err != nil {
			return nil, nil, err
		}
		moved := now.movedTo(places)
		if moved == "" {
			return now, places, nil
		}
		from, now = now.topic, s.on(moved)
	}
}

// generations returns the names of the topics of later generations.
func (s *sink) generations(ctx context.Context, client *kgo.Client) (names []string, err error) {
	all, err := kadm.NewClient(client).ListTopics(ctx)
	if err != nil {
		return nil, classify(err)
	}
	for name := range all {
		if strings.HasPrefix(name, s.keys.Topic+generationMark) {
			names = append(names, name)
		}
	}
	return names, nil
}

// generation is a topic that is being filled beside the one that readers see, by the transactions
// of the same producer: what fences that fences both.
type generation struct {
	mu     sync.Mutex // held while a chunk is written
	writer *sink
	done   map[int]bool
	ended  []bool // the partitions that have the End
	broken error  // why the sink must be opened again
}

// Bootstrap begins a generation, or goes on with it.
func (s *sink) Bootstrap(ctx context.Context, id string) (done map[int]bool, swapped bool, err error) {
	topic := s.keys.Topic + generationMark + id
	if s.topic == topic {
		return nil, true, nil
	}
	if s.generation, err = s.begin(ctx, topic); err != nil {
		return nil, false, err
	}
	return maps.Clone(s.generation.done), false, nil
}

// begin claims a generation, and deletes all others that readers do not see.
func (s *sink) begin(ctx context.Context, topic string) (*generation, error) {
	seen := map[string]bool{topic: true, s.topic: true}
	if _, _, err := s.follow(ctx, s.producer, seen); err != nil {
		return nil, err
	}
	names, err := s.generations(ctx, s.producer)
	if err != nil {
		return nil, err
	}
	for _, other := range names {
		if seen[other] {
			continue
		}
		if _, err := kadm.NewClient(s.producer).DeleteTopic(ctx, other); err != nil {
			return nil, classify(err)
		}
	}

	w := s.on(topic)
	w.producer, w.taken, w.stand = s.producer, ends{}, make([]streams.Cursor, s.keys.Partitions)
	t, err := w.makeTopic(ctx, s.producer)
	if err != nil {
		return nil, err
	}
	w.maxMessage = t.maxMessage
	if err := w.commit(ctx, w.controlRecords("claim")); err != nil {
		return nil, s.failed(ctx, err)
	}

	g := &generation{writer: w, done: make(map[int]bool)}
	places, err := w.tails(ctx, s.producer)
	if err != nil {
		return nil, err
	}
	for _, at := range places {
		g.ended = append(g.ended, at.known)
	}
	err = w.consume(ctx, s.producer, 0, places[0].start, places[0].end, func(m stored) error {
		if m.control != nil && m.chunk > 0 {
			g.done[m.chunk-1] = true
		}
		return nil
	})

	return g, err
}

// Chunk writes a chunk as a transaction. Chunks come one after another, in any order.
func (s *sink) Chunk(ctx context.Context, c streams.Chunk, d streams.Delivery) error {
	g := s.generation
	if g == nil {
		return errors.New("no generation was begun")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.broken != nil {
		return g.broken
	}

	t := &transaction{sink: g.writer, delivery: d}
	err := s.producer.BeginTransaction()
	if err == nil {
		if err = t.chunk(ctx, c); err != nil {
			s.abort()
		} else {
			err = s.end(ctx)
		}
	}
	if err != nil {
		if streams.ClassOf(err) == streams.Bug { // of the client
			err = s.failed(ctx, err)
		}
		g.broken = err
		return err
	}
	g.done[c.Number] = true

	return nil
}

// chunk produces the records of a chunk, and the one that says that it is there.
func (t *transaction) chunk(ctx context.Context, c streams.Chunk) error {
	header := kgo.RecordHeader{Key: headerChunk, Value: strconv.AppendInt(nil, int64(c.Number)+1, 10)}
	for {
		e, err := t.delivery.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		r, err := t.record(e, t.partition(e))
		if err != nil {
			return err
		}
		r.Headers = append(r.Headers, header)
		if err := t.send(ctx, r); err != nil {
			return err
		}
		t.delivery.Credit(e.Size())
	}

	done := t.controlRecord(0, "chunk", nil)
	done.Headers = append(done.Headers, header)
	if err := t.send(ctx, done); err != nil {
		return err
	}
	if err := t.sink.producer.Flush(ctx); err != nil {
		return err
	}

	return t.failure()
}

// Swap ends the generation's unit, and then the present topic with a moved event, which is the step
// that counts: whoever reads the end of the topic goes on in the generation. Together they could be
// torn, as the markers of a transaction reach one partition after another.
func (s *sink) Swap(ctx context.Context, _ streams.Chunk, end streams.Event) (streams.Cursor, error) {
	g := s.generation
	if g == nil {
		return streams.Cursor{}, errors.New("no generation was begun")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.broken != nil {
		return streams.Cursor{}, g.broken
	}

	var records []*kgo.Record
	for p := range s.keys.Partitions {
		if g.ended[p] {
			continue // an attempt before this one came so far
		}
		r, err := g.writer.record(end, p)
		if err != nil {
			return streams.Cursor{}, err
		}
		records = append(records, r)
	}
	if len(records) > 0 {
		if err := g.writer.commit(ctx, records); err != nil {
			return streams.Cursor{}, s.failed(ctx, err)
		}
	}
	g.writer.at = s.opening.Cursor(end).Clone()
	for p := range g.writer.stand {
		g.writer.stand[p] = g.writer.at
	}

	return s.move(ctx, g)
}

// move makes a generation the topic of the sink: a moved event ends each partition of the present
// one, so that the reader of any learns it.
func (s *sink) move(ctx context.Context, g *generation) (streams.Cursor, error) {
	var moved []*kgo.Record
	for p := range s.keys.Partitions {
		r, err := s.record(s.opening.Moved(s.at, g.writer.topic), int32(p))
		if err != nil {
			return streams.Cursor{}, err
		}
		moved = append(moved, r)
	}
	if err := s.commit(ctx, moved); err != nil {
		return streams.Cursor{}, s.failed(ctx, err)
	}

	w := g.writer
	s.topic, s.maxMessage, s.at, s.stand, s.taken, s.generation = w.topic, w.maxMessage, w.at, w.stand, w.taken, nil

	return s.cursor(ctx)
}

// Rewind copies what stays to a new generation, since a topic cannot lose its end.
func (s *sink) Rewind(ctx context.Context, to *streams.Position) (streams.Cursor, error) {
	g, err := s.begin(ctx, s.keys.Topic+generationMark+rand.Text()[:16])
	if err != nil {
		return streams.Cursor{}, err
	}

	if to != nil {
		var failed error
		next, stop := iter.Pull(func(yield func(stored) bool) {
			failed = s.events(ctx, streams.Position{}, *to, func(m stored) error {
				if !yield(m) {
					return errEnough
				}
				return nil
			})
		})
		defer stop()
		err := g.writer.Write(ctx, &copying{to: g.writer, next: next, failed: &failed})
		if err != nil {
			return streams.Cursor{}, err
		}
		g.writer.opening.Definition = s.opening.Definition
	}

	return s.move(ctx, g)
}

// copying is the delivery of what a topic holds to another one.
type copying struct {
	to     *sink
	next   func() (stored, bool)
	failed *error
	after  *streams.Position
}

func (c *copying) Next(context.Context) (streams.Event, error) {
	m, ok := c.next()
	if !ok && *c.failed != nil {
		return streams.Event{}, *c.failed
	}
	if !ok {
		return streams.Event{}, io.EOF
	}
	if end, ok := m.event.Body.(*streams.End); ok {
		at := m.event.Position
		end.After, c.after = c.after, &at
		c.to.opening.Definition = m.hash // each unit keeps that of its writer
	}
	return m.event, nil
}

func (c *copying) Credit(int) { /* there is no bound */ }

// inOrder returns the ranges of offsets of a partition to read, one after the other, so that the
// chunks of a bootstrap come in the order of their numbers. They come before all other events.
func (s *sink) inOrder(ctx context.Context, client *kgo.Client, p int32, at place) ([][2]int64, error) {
	all := [][2]int64{{at.start, at.end}}
	if s.topic == s.keys.Topic {
		return all, nil
	}

	type chunk struct {
		number   int
		from, to int64
	}
	var chunks []chunk
	err := s.consume(ctx, client, p, at.start, at.end, func(m stored) error {
		if _, ends := m.event.Body.(*streams.End); ends {
			return errEnough
		}
		if m.chunk == 0 {
			return nil
		}
		if n := len(chunks); n == 0 || chunks[n-1].number != m.chunk {
			chunks = append(chunks, chunk{number: m.chunk, from: m.record.Offset})
		}
		chunks[len(chunks)-1].to = m.record.Offset + 1
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}

	byNumber := func(a, b chunk) int { return a.number - b.number }
	if slices.IsSortedFunc(chunks, byNumber) {
		return all, nil
	}
	slices.SortFunc(chunks, byNumber)
	var ranges [][2]int64
	var end int64
	for _, c := range chunks {
		ranges = append(ranges, [2]int64{c.from, c.to})
		end = max(end, c.to)
	}

	return append(ranges, [2]int64{end, at.end}), nil
}

var (
	_ streams.Bootstrapper = (*sink)(nil)
	_ streams.Rewinder     = (*sink)(nil)
)
