package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"connectrpc.com/connect"

	"github.com/coppice-go/coppice/engines/chain"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// EventSource streams the events of a node. It is safe for concurrent use.
type EventSource interface {
	// Events sends the events that q selects: records of the event log, in order and each once, and
	// events of the tree as they happen. It returns when ctx ends, when send fails, or when
	// everything that q.Once asks for has been sent. Calls of send never overlap. Events continues
	// while the node is down. It returns pubsub.ErrFilter for an invalid filter, ErrNoRecord for a
	// cursor before the oldest record that is kept, ErrForeign for one of another history, and
	// ErrBusy if the node already serves as many streams as it allows. If the log is up, these
	// errors come before the first send.
	Events(ctx context.Context, q EventsQuery, send func(*apiv1.EventsResponse) error) error
}

// EventsQuery selects events.
type EventsQuery struct {
	After   uint64   // the records begin after the one with this index
	History string   // of that record; empty: any
	FromNow bool     // begin after the newest record, whatever After is
	Filter  string   // in the language of pubsub.Table
	Kinds   []string // of records and of tree events; empty means all
	Once    bool     // end after the record that is the newest when the call begins; no tree events
}

// EventKinds returns the names of all kinds of events: of the records of the log, of the events of
// the tree, and of changes of the readiness.
func EventKinds() []string { return append(append(chain.KindNames(), TreeKinds()...), ReadinessKind) }

func (q EventsQuery) check() error {
	if len(q.Filter) > maxFilter {
		return invalid("filter", "%d bytes, want at most %d", len(q.Filter), maxFilter)
	}

	for _, k := range q.Kinds {
		if !slices.Contains(EventKinds(), k) {
			return invalid("kinds", "unknown kind of event %q, want some of %v", k, EventKinds())
		}
	}

	return nil
}

const maxFilter = 16 << 10

// stalled is the longest time that one write to a client may take. A client that has not read by
// then is cut off, because its stream counts against the number that the node allows.
const stalled = 30 * time.Second

func (s *adminService) Events(ctx context.Context, req *connect.Request[apiv1.EventsRequest],
	stream *connect.ServerStream[apiv1.EventsResponse]) error {
	m := req.Msg
	q := EventsQuery{After: m.After, History: m.History, FromNow: m.FromNow, Filter: m.Filter, Kinds: m.Kinds,
		Once: m.Once}
	if err := q.check(); err != nil {
		return err
	}
	if err := s.host.Events(ctx, q, stream.Send); err != nil {
		return wireError(ctx, err)
	}

	return nil
}

// Streaming returns a handler that serves a stream with h. It ends the stream when until ends, and
// it cuts off a client that does not read.
func Streaming(until context.Context, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancelCause(r.Context())
		defer cancel(nil)
		defer context.AfterFunc(until, func() {
			cancel(fmt.Errorf("%w: the listener is stopping", ErrUnavailable))
		})()
		control := http.NewResponseController(w)
		h.ServeHTTP(&deadlined{w, control}, r.WithContext(ctx))
		_ = control.SetWriteDeadline(time.Time{}) // the connection may serve other requests
	})
}

// deadlined is a ResponseWriter that gives each write and each flush a deadline of its own.
type deadlined struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (d *deadlined) Write(b []byte) (int, error) {
	// Only a test's recorder has no deadlines, and it has no client that could stall.
	_ = d.control.SetWriteDeadline(time.Now().Add(stalled))
	return d.ResponseWriter.Write(b)
}

// Flush sends the bytes that were written so far to the client.
func (d *deadlined) Flush() {
	_ = d.control.SetWriteDeadline(time.Now().Add(stalled))
	_ = d.control.Flush() // the next write returns the error
}

// Unwrap returns the underlying writer, for http.ResponseController.
func (d *deadlined) Unwrap() http.ResponseWriter { return d.ResponseWriter }
