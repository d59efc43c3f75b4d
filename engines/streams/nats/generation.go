package nats

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/coppice-go/coppice/engines/streams"
)

// generationMark is in the names of the streams of later generations. No name of a slot has it.
const generationMark = "-GEN-"

// subjectOf returns the subject of a stream of the sink, before the kind.
func (s *sink) subjectOf(stream string) string {
	return s.keys.Subject + strings.TrimPrefix(stream, s.keys.Stream)
}

// first returns the stream of the definition or, if it was deleted, that of the generation in which
// the slot has last seen the sink.
func (s *sink) first(ctx context.Context, conn *connection) (jetstream.Stream, error) {
	stream, err := conn.js.Stream(ctx, s.keys.Stream)
	if n := s.known(); errors.Is(err, jetstream.ErrStreamNotFound) && n.Stream != "" {
		return conn.js.Stream(ctx, n.Stream)
	}
	return stream, err
}

// follow returns the stream that has the sink's data now, and its end: a stream that ends with a
// moved event names the one that has taken its place. seen gets the names of all of them.
func (s *sink) follow(ctx context.Context, conn *connection, stream jetstream.Stream, seen map[string]bool) (
	jetstream.Stream, tail, error) {
	for {
		name := stream.CachedInfo().Config.Name
		if seen != nil {
			seen[name] = true
		}
		t, err := s.tail(ctx, conn, stream)
		if err != nil || t.moved == "" {
			return stream, t, err
		}

		stream, err = conn.js.Stream(ctx, t.moved)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return nil, t, streams.Fail(streams.Misconfigured, fmt.Errorf("stream %s has moved to %s, which is gone: "+
				"rebuild the sink under another stream", name, t.moved))
		} else if err != nil {
			return nil, t, classify(err)
		}
	}
}

// generations returns the names of the streams of later generations.
func (s *sink) generations(ctx context.Context, conn *connection) (names []string, err error) {
	list := conn.js.StreamNames(ctx)
	for name := range list.Name() {
		if strings.HasPrefix(name, s.keys.Stream+generationMark) {
			names = append(names, name)
		}
	}
	return names, classify(list.Err())
}

// generation is a stream that is being filled beside the one that readers see.
type generation struct {
	mu     sync.Mutex // held while a chunk is written
	name   string
	writer *sink
	done   map[int]bool
	broken error // why Bootstrap must be called again
}

// Bootstrap begins a generation, or goes on with it.
func (s *sink) Bootstrap(ctx context.Context, id string) (done map[int]bool, swapped bool, err error) {
	name := s.keys.Stream + generationMark + id
	if s.stream.CachedInfo().Config.Name == name {
		return nil, true, nil
	}
	if s.generation, err = s.begin(ctx, name); err != nil {
		return nil, false, err
	}
	return maps.Clone(s.generation.done), false, nil
}

// begin claims a generation, and deletes all others that readers do not see.
func (s *sink) begin(ctx context.Context, name string) (*generation, error) {
	seen := map[string]bool{name: true, s.stream.CachedInfo().Config.Name: true}
	stream, err := s.first(ctx, s.conn)
	if err == nil {
		_, _, err = s.follow(ctx, s.conn, stream, seen)
	}
	if err != nil {
		return nil, classify(err)
	}
	names, err := s.generations(ctx, s.conn)
	if err != nil {
		return nil, err
	}
	for _, other := range names {
		if seen[other] {
			continue
		}
		if err := s.conn.js.DeleteStream(ctx, other); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return nil, classify(err)
		}
	}

	stream, err = s.conn.js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = s.create(ctx, name)
	}
	if err != nil {
		return nil, classify(err)
	}
	g := &generation{name: name, done: make(map[int]bool), writer: &sink{keys: s.keys, secrets: s.secrets,
		definition: s.definition, opening: s.opening, conn: s.conn}}
	if err := g.writer.use(stream); err != nil {
		return nil, err
	}

	return g, g.claim(ctx)
}

// claim publishes a claim in the stream of the generation, so that an older writer cannot write
// there. What follows the last whole chunk is void.
func (g *generation) claim(ctx context.Context) error {
	w := g.writer
	for {
		info, err := w.stream.Info(ctx)
		if err != nil {
			return classify(err)
		}
		w.last = info.State.LastSeq

		var void uint64
		if w.last > 0 {
			m, err := w.get(ctx, w.conn, g.name, w.last)
			if err != nil {
				return classify(err)
			}
			if m.epoch > w.opening.Epoch {
				return fenced(w.opening.Epoch, m.epoch)
			}
			if m.control == nil {
				void = m.base + 1
			}
		}

		err = w.publish(ctx, w.controlMessage(control{Void: void}))
		if isWrongSequence(err) {
			continue // somebody else wrote meanwhile
		}
		if err != nil {
			return classify(err)
		}
		w.base = w.last
		break
	}

	return w.each(ctx, w.conn, w.stream, w.subject+"."+controlKind, 0, w.last, func(m stored) error {
		if m.control != nil && m.control.Chunk > 0 {
			g.done[m.control.Chunk-1] = true
		}
		return nil
	})
}

// Chunk writes a chunk: its events, and a control message that makes them count. Chunks come one
// after another, in any order, as a stream has one end.
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

	if err := g.chunk(ctx, c, d); err != nil {
		g.broken = err
		return err
	}
	g.done[c.Number] = true

	return nil
}

func (g *generation) chunk(ctx context.Context, c streams.Chunk, d streams.Delivery) error {
	w := g.writer
	from := w.last + 1
	var pending []*nats.Msg
	bytes := 0
	send := func() error {
		defer func() { pending, bytes = nil, 0 }()
		if len(pending) == 0 {
			return nil
		}
		if w.atomic {
			return w.sendBatch(ctx, pending)
		}
		return w.sendEach(ctx, pending)
	}

	for {
		e, err := d.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		m, err := w.message(e)
		if err != nil {
			return err
		}
		if len(pending) >= w.keys.Batch || bytes+m.Size() > maxBatchBytes {
			if err := send(); err != nil {
				return w.failed(ctx, err)
			}
		}
		pending, bytes = append(pending, m), bytes+m.Size()
		d.Credit(e.Size())
	}

	err := send()
	if err == nil {
		err = w.publish(ctx, w.controlMessage(control{Chunk: c.Number + 1, From: from}))
	}
	if err != nil {
		return w.failed(ctx, err)
	}
	w.base = w.last

	return nil
}

// Swap ends the generation's unit, and then the present stream with a moved event, which is the
// step that counts: whoever reads the end of the stream goes on in the generation.
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

	m, err := g.writer.message(end)
	if err != nil {
		return streams.Cursor{}, err
	}
	if err := g.writer.publish(ctx, m); err != nil {
		return streams.Cursor{}, g.writer.failed(ctx, err)
	}
	g.writer.base = g.writer.last
	g.writer.at = s.opening.Cursor(end).Clone()

	return s.move(ctx, g)
}

// move makes a generation the stream of the sink.
func (s *sink) move(ctx context.Context, g *generation) (streams.Cursor, error) {
	m, err := s.message(s.opening.Moved(s.at, g.name))
	if err != nil {
		return streams.Cursor{}, err
	}
	if err := s.publish(ctx, m); err != nil {
		s.broken = s.failed(ctx, err)
		return streams.Cursor{}, s.broken
	}

	w := g.writer
	if err := s.use(w.stream); err != nil {
		return streams.Cursor{}, err
	}
	s.last, s.base, s.at, s.partial, s.generation = w.last, w.base, w.at, nil, nil

	return s.cursor(s.at), nil
}

// Rewind copies what stays to a new generation, since a stream cannot lose its end.
func (s *sink) Rewind(ctx context.Context, to *streams.Position) (streams.Cursor, error) {
	g, err := s.begin(ctx, s.keys.Stream+generationMark+rand.Text()[:16])
	if err != nil {
		return streams.Cursor{}, err
	}

	if to != nil {
		w := &writing{sink: g.writer}
		err := s.events(ctx, *to, func(m stored) error {
			if end, ok := m.event.Body.(*streams.End); ok {
				w.opening.Definition = m.hash // each unit keeps that of its writer
				if at := w.at.Position; !w.at.Empty() {
					end.After = &at
				}
			}
			return w.take(ctx, m.event)
		})
		if err == nil {
			err = w.flush(ctx, len(w.pending))
		}
		if err != nil {
			return streams.Cursor{}, err
		}
		w.opening.Definition = s.opening.Definition
	}

	return s.move(ctx, g)
}

var (
	_ streams.Bootstrapper = (*sink)(nil)
	_ streams.Rewinder     = (*sink)(nil)
)
