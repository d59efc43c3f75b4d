package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/coppice-go/coppice/engines/streams"
)

// sink implements streams.Sink.
type sink struct {
	keys       keys
	secrets    streams.Secrets
	definition streams.Definition

	opening streams.Opening
	conn    *connection // of the writer
	stream  jetstream.Stream
	subject string // of stream, before the kind
	atomic  bool

	generation *generation // that is being filled; nil: none

	last    uint64         // sequence of the stream's last message
	base    uint64         // sequence of the message that tells at
	at      streams.Cursor // after the last whole unit
	partial *partial
	broken  error // why the sink must be opened again

	observing sync.Mutex
	observe   *connection
}

// Open finds out where the stream stands and publishes a claim behind its last message.
func (s *sink) Open(ctx context.Context, o streams.Opening) (streams.Cursor, error) {
	s.opening = o
	conn, err := s.connect(ctx)
	if err != nil {
		return streams.Cursor{}, err
	}
	s.conn = conn
	if err := s.makeStream(ctx); err != nil {
		return streams.Cursor{}, err
	}

	for {
		stream, t, err := s.follow(ctx, conn, s.stream, nil)
		if err == nil && stream != s.stream {
			err = s.use(stream)
		}
		if err != nil {
			return streams.Cursor{}, err
		}
		if t.epoch >= o.Epoch {
			return streams.Cursor{}, fenced(o.Epoch, t.epoch)
		}

		claim := s.controlMessage(control{Cursor: t.cursor, Partial: t.partial})
		s.last, s.at, s.partial = t.last, t.cursor, t.partial
		err = s.publish(ctx, claim)
		if isWrongSequence(err) {
			continue // somebody else wrote meanwhile
		}
		if err != nil {
			return streams.Cursor{}, classify(err)
		}
		s.base = s.last

		return s.cursor(t.cursor), nil
	}
}

// cursor returns c as the writer's cursor.
func (s *sink) cursor(c streams.Cursor) streams.Cursor {
	c.Epoch, c.Beat = s.opening.Epoch, s.last
	c.Native = s.native(s.stream, s.last, c)
	return c
}

// makeStream makes the stream of the definition if it is missing, and begins to use it.
func (s *sink) makeStream(ctx context.Context) error {
	stream, err := s.first(ctx, s.conn)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = s.create(ctx, s.keys.Stream)
	}
	if err != nil {
		return classify(err)
	}
	return s.use(stream)
}

// create makes a stream of the sink.
func (s *sink) create(ctx context.Context, name string) (jetstream.Stream, error) {
	return s.conn.js.CreateStream(ctx, jetstream.StreamConfig{
		Name: name, Subjects: []string{s.subjectOf(name) + ".>"}, Storage: jetstream.FileStorage,
		Replicas: s.keys.Replicas, DenyDelete: true, AllowAtomicPublish: s.wantsBatches(),
		Description: "blocks of a chain, written by coppice",
	})
}

// use makes a stream the one that the sink writes to, unless it would lose or change what is
// written.
func (s *sink) use(stream jetstream.Stream) error {
	config := stream.CachedInfo().Config
	s.stream, s.subject = stream, s.subjectOf(config.Name)
	s.atomic = s.wantsBatches() && config.AllowAtomicPublish
	return s.checkStream(config)
}

func (s *sink) wantsBatches() bool {
	return s.keys.Atomic == "auto" && s.keys.Batch > 1 && hasBatches(s.conn.nc)
}

// hasBatches reports whether the server has atomic batches.
func hasBatches(nc *nats.Conn) bool {
	var major, minor int
	_, err := fmt.Sscanf(nc.ConnectedServerVersion(), "%d.%d", &major, &minor)
	return err == nil && (major > 2 || major == 2 && minor >= 12)
}

// checkStream returns an error if a stream would lose or change what is written to it.
func (s *sink) checkStream(c jetstream.StreamConfig) error {
	wrong := func(what string) error {
		return streams.Fail(streams.Misconfigured, fmt.Errorf("stream %s %s", c.Name, what))
	}

	switch {
	case c.Storage != jetstream.FileStorage:
		return wrong("is kept in memory, want a file storage")
	case c.Retention != jetstream.LimitsPolicy:
		return wrong("removes what was consumed (retention " + c.Retention.String() + "), want limits")
	case c.NoAck:
		return wrong("does not acknowledge (no_ack)")
	case c.Mirror != nil || len(c.Sources) > 0:
		return wrong("is a mirror, or has sources: others write to it")
	case c.Sealed:
		return wrong("is sealed")
	case c.SubjectTransform != nil:
		return wrong("changes subjects")
	case c.MaxMsgsPerSubject > 0:
		return wrong(fmt.Sprintf("keeps only %d messages per subject", c.MaxMsgsPerSubject))
	case c.Discard == jetstream.DiscardNew && (c.MaxMsgs > 0 || c.MaxBytes > 0):
		return nil // it refuses when it is full: class full
	case len(c.Subjects) != 1 || c.Subjects[0] != s.subjectOf(c.Name)+".>":
		return wrong(fmt.Sprintf("has the subjects %s, want %s.> alone", strings.Join(c.Subjects, ", "),
			s.subjectOf(c.Name)))
	}

	return nil
}

// Observe reads the end of the stream.
func (s *sink) Observe(ctx context.Context) (streams.Cursor, error) {
	s.observing.Lock()
	defer s.observing.Unlock()

	if s.observe == nil || s.observe.nc.IsClosed() {
		conn, err := s.connect(ctx)
		if err != nil {
			return streams.Cursor{}, err
		}
		s.observe = conn
	}

	stream, err := s.first(ctx, s.observe)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return streams.Cursor{}, nil
	} else if err != nil {
		return streams.Cursor{}, classify(err)
	}
	stream, t, err := s.follow(ctx, s.observe, stream, nil)
	if err != nil {
		return streams.Cursor{}, err
	}

	c := t.cursor
	c.Epoch, c.Native = t.epoch, s.native(stream, t.last, t.cursor)
	c.Beat = t.last + s.beats(ctx, s.observe)

	return c, nil
}

// Limits implements streams.Limiter.
func (s *sink) Limits(ctx context.Context) (streams.Limits, error) {
	if s.conn != nil {
		return s.limits(s.conn.nc.MaxPayload()), nil
	}

	conn, err := s.connect(ctx)
	if err != nil {
		return streams.Limits{}, err
	}
	defer conn.close()

	return s.limits(conn.nc.MaxPayload()), nil
}

// Close ends the connections.
func (s *sink) Close(context.Context) error {
	s.conn.close()
	s.observing.Lock()
	defer s.observing.Unlock()
	s.observe.close()

	return nil
}

// Check says what would hinder the sink.
func (s *sink) Check(ctx context.Context) (notes []string, err error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.close()

	if _, err := conn.js.AccountInfo(ctx); err != nil {
		return nil, classify(err)
	}

	stream, err := s.first(ctx, conn)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		notes = append(notes, "the stream "+s.keys.Stream+" will be made")
		if !hasBatches(conn.nc) {
			notes = append(notes, "the server has no atomic batches: readers see a block before its end")
		}
	case err != nil:
		return nil, classify(err)
	default:
		config := stream.CachedInfo().Config
		if err := s.checkStream(config); err != nil {
			return nil, err
		}
		if !config.AllowAtomicPublish || !hasBatches(conn.nc) {
			notes = append(notes, "the stream has no atomic batches (allow_atomic): readers see a block before its end")
		}
		if config.MaxAge > 0 || config.MaxBytes > 0 || config.MaxMsgs > 0 {
			notes = append(notes, "the stream removes old messages: without its last one, the sink must be rebuilt")
		}
	}
	if !s.keys.SyncAlways {
		notes = append(notes, "unless the server syncs always, it loses what it acknowledged when its machine fails: "+
			"set sync_interval: always there, and sync_always = true in the definition")
	}

	return notes, nil
}

// Forget deletes the stream and its generations.
func (s *sink) Forget(ctx context.Context) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.close()

	names, err := s.generations(ctx, conn)
	if err != nil {
		return err
	}
	for _, name := range append(names, s.keys.Stream, s.beatStream()) {
		if err := conn.js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return classify(err)
		}
	}

	return nil
}

// Preview shows the message of an event.
func (s *sink) Preview(e streams.Event) (string, error) {
	return s.keys.Subject + "." + string(e.Body.Kind()) + " " + string(streams.AppendJSON(nil, e)), nil
}

// fenced returns the error of a writer whose claim is no longer the newest.
func fenced(own, newest uint64) error {
	return streams.Fail(streams.Fenced, fmt.Errorf("epoch %d writes to the sink, this is epoch %d", newest, own))
}

// saved is Cursor.Native: the stream's last sequence, and where the sink stood then. If the end of
// the stream is removed and nothing was written since, it is where the sink goes on.
type saved struct {
	Stream string         `json:"stream,omitempty"` // of a generation; empty: that of the definition
	Seq    uint64         `json:"seq"`
	Cursor streams.Cursor `json:"cursor"`
}

// known returns the position that the slot has saved.
func (s *sink) known() (n saved) {
	_ = json.Unmarshal([]byte(s.opening.Native), &n) // an empty one is zero
	return n
}

func (s *sink) native(stream jetstream.Stream, seq uint64, c streams.Cursor) string {
	c.Native, c.Beat = "", 0
	n := saved{Seq: seq, Cursor: c}
	if name := stream.CachedInfo().Config.Name; name != s.keys.Stream {
		n.Stream = name
	}
	b, err := json.Marshal(n)
	if err != nil {
		panic(err) // only our own types come here
	}
	return string(b)
}
