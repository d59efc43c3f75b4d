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
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/pubsub"
	"github.com/coppice-go/coppice/supervisor"
)

// Log is what a stream needs of the logger.
type Log = tail.Log

// Options of a Source. Bus and Log are needed, and the rest has defaults.
type Options struct {
	// Bus carries the news that something was logged; the filter of a stream is an agent of it.
	Bus *pubsub.Bus[engines.Event]

	// Log answers the log of the node that runs now, or why there is none.
	Log func() (Log, error)

	Backlog   int           // events of the tree that the newest of are kept for slow readers; 4,096
	Streams   int           // that may be open at once; 1,024
	Heartbeat time.Duration // how often a stream that is quiet says where it is; 15 s
}

// Source is an api.EventSource, and the supervisor.Observer from which the events of the tree come.
type Source struct {
	Options
	feed *feed
	open atomic.Int64
}

// New returns the source of a node's streams.
func New(o Options) *Source {
	if o.Backlog == 0 {
		o.Backlog = 4_096
	}
	if o.Streams == 0 {
		o.Streams = 1_024
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = 15 * time.Second
	}
	return &Source{Options: o, feed: newFeed(o.Backlog)}
}

// Observe takes an event of the tree. It never waits.
func (s *Source) Observe(e supervisor.Event) { s.feed.Observe(e) }

// Open is how many streams are open.
func (s *Source) Open() int { return int(s.open.Load()) }

// firstContact is how long a stream waits for the log before it begins without: a logger that hangs
// must not keep the events of the tree from who wants to see why.
const firstContact = time.Second

// Events is api.EventSource's.
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
		Bus: s.Bus, Chain: chain, Changed: s.feed.changed, EndWithLog: q.Once})
	defer st.log.Close()

	place := s.feed.end() // before the log is asked: what happens meanwhile is seen
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

// unavailable marks what asking again may mend.
func unavailable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if tail.Final(err) {
		return err
	}
	return fmt.Errorf("%w: the event log can not be read: %w", api.ErrUnavailable, err)
}

// stream is one call of Events. The tail of the log and the pump of the tree run beside each other,
// so that neither waits when the other does; mu is held while something is sent.
type stream struct {
	source  *Source
	chain   pubsub.Chain[engines.Event]
	log     *tail.Tail
	records bool // the chain matches some; without them the log is not needed

	mu     sync.Mutex
	send   func(*apiv1.EventsResponse) error
	cursor uint64 // all records up to it were sent, or do not match
	known  bool   // the cursor is known
	told   uint64 // the cursor that was sent last
}

// emit sends one event with the cursor as it is then.
func (s *stream) emit(m *apiv1.EventsResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.emitLocked(m)
}

func (s *stream) emitLocked(m *apiv1.EventsResponse) error {
	if s.known {
		at := s.cursor
		m.Cursor, s.told = &at, at
	}
	return s.send(m)
}
