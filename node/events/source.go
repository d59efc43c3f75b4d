package events

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/tail"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/history"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/pubsub"
	"github.com/coppice-go/coppice/supervisor"
)

// Log is the part of the logger that a stream needs.
type Log = tail.Log

// Options configure a Source. Bus and Log are required; the rest has defaults.
type Options struct {
	// Bus carries the news of logged records. The filter of a stream runs as an agent of the bus.
	Bus *pubsub.Bus[engines.Event]

	// Log returns the log of the node that runs now, or the reason why there is none.
	Log func() (Log, error)

	// History returns the history of the log, once it was opened; nil: cursors have none.
	History func() *history.History

	Backlog   int           // how many of the newest live events are kept for slow readers; 4,096
	Streams   int           // how many streams may be open at once; 1,024
	Heartbeat time.Duration // how often a quiet stream sends its cursor; 15 s
}

// Source implements api.EventSource. It is also the supervisor.Observer that receives the events of
// the tree.
type Source struct {
	Options
	feed *feed
	open atomic.Int64
}

// New returns the source of a node's streams of events.
func New(o Options) *Source {
	if o.Backlog == 0 {
		o.Backlog = 4_096
	}
	if o.Streams == 0 {
		o.Streams = 1_024
	}
	if o.History == nil {
		o.History = func() *history.History { return nil }
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = 15 * time.Second
	}
	return &Source{Options: o, feed: newFeed(o.Backlog)}
}

// Observe receives an event of the tree. It never waits.
func (s *Source) Observe(e supervisor.Event) { s.feed.add(engines.TreeChanged{Event: e}) }

// Changed receives a change of the node's readiness, or of the process of its consensus. It never
// waits.
func (s *Source) Changed(e engines.Event) { s.feed.add(e) }

// Open returns the number of open streams.
func (s *Source) Open() int { return int(s.open.Load()) }

// firstContact is the longest time that a stream waits for the log before it begins without the
// log. A logger that hangs must not hide the events of the tree, which show why it hangs.
const firstContact = time.Second

// Events implements api.EventSource.
func (s *Source) Events(ctx context.Context, q api.EventsQuery, send func(*apiv1.EventsResponse) error) error {
	defer s.open.Add(-1)

	if n := s.open.Add(1); n > int64(s.Streams) {
		return fmt.Errorf("%w: %d", api.ErrBusy, s.Streams)
	}
	chain, err := chainOf(q)
	if err != nil {
		return fmt.Errorf("filter: %w", err)
	}

	kinds := matching(chain)
	st := &stream{source: s, records: len(kinds) > 0, chain: chain, cursor: q.After, known: !q.FromNow, send: send}
	st.log = tail.New(tail.Options{Log: s.Log, After: q.After, FromNow: q.FromNow, Kinds: kinds,
		Admit: func(after, first uint64) error { return s.History().Check(q.History, after, first) },
		Bus:   s.Bus, Chain: chain, Changed: s.feed.changed, EndWithLog: q.Once})
	defer st.log.Close()

	place := s.feed.end() // before the log is asked, so as not to miss events meanwhile
	first, cancel := context.WithTimeout(ctx, firstContact)
	err = st.enter(first)
	cancel()

	switch {
	case q.Once && err != nil:
		return unavailable(ctx, err)
	case q.Once:
		return st.once(ctx)
	case tail.Final(err):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}

	return st.follow(ctx, place)
}

// unavailable returns the error that Events returns when the log fails with err: the cause of ctx
// if ctx has ended, and err otherwise, wrapped in ErrUnavailable if asking again may succeed.
func unavailable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if tail.Final(err) {
		return err
	}
	return fmt.Errorf("%w: the event log cannot be read: %w", api.ErrUnavailable, err)
}

// stream is one call of Events. One goroutine sends the records of the log and another the events
// of the tree, so neither waits when the other does. mu is held during each send.
type stream struct {
	source  *Source
	chain   pubsub.Chain[engines.Event]
	log     *tail.Tail
	records bool // the chain matches some records; otherwise the log is not needed

	mu     sync.Mutex
	send   func(*apiv1.EventsResponse) error
	cursor uint64 // all records up to it were sent or do not match
	known  bool   // the cursor is known
	told   uint64 // the last cursor that was sent
}

// emit sends one event with the current cursor.
func (s *stream) emit(m *apiv1.EventsResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.emitLocked(m)
}

func (s *stream) emitLocked(m *apiv1.EventsResponse) error {
	if s.known {
		at := s.cursor
		m.Cursor, m.History, s.told = &at, s.source.History().At(at), at
	}
	return s.send(m)
}
