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

// EventSource streams what happens in a node. It is safe for concurrent use.
type EventSource interface {
	// Events sends records of the event log, in order and each once, and events of the tree as they
	// come, until ctx ends, send fails, or q.Once has been satisfied. Calls of send never overlap.
	// It goes on while the node is down. A filter that is none is pubsub.ErrFilter, a cursor below
	// the oldest record that is kept ErrNoRecord, and more streams than the node serves at once
	// ErrBusy; the first two come before the first send where the log is up.
	Events(ctx context.Context, q EventsQuery, send func(*apiv1.EventsResponse) error) error
}

// EventsQuery says which events are wanted.
type EventsQuery struct {
	After   uint64   // index of the last record seen
	FromNow bool     // begin behind the newest record, whatever After is
	Filter  string   // in the language of pubsub.Table
	Kinds   []string // of records and of tree events; none is all
	Once    bool     // end at what is the newest record now: no tree events
}

// EventKinds are the names of all kinds of events: of the records of the log, and of the events of
// the tree.
func EventKinds() []string { return append(chain.KindNames(), TreeKinds()...) }

func (q EventsQuery) check() error {
	if len(q.Filter) > maxFilter {
		return invalid("filter", "%d bytes, want at most %d", len(q.Filter), maxFilter)
	}

	for _, k := range q.Kinds {
		if !slices.Contains(EventKinds(), k) {
			return invalid("kinds", "%q is no kind of event, want some of %v", k, EventKinds())
		}
	}

	return nil
}

const maxFilter = 16 << 10

// stalled is how long one write to a client may take before it is cut off: a client that reads
// nothing holds a stream.
const stalled = 30 * time.Second

func (s *adminService) Events(ctx context.Context, req *connect.Request[apiv1.EventsRequest],
	stream *connect.ServerStream[apiv1.EventsResponse]) error {
	m := req.Msg
	q := EventsQuery{After: m.After, FromNow: m.FromNow, Filter: m.Filter, Kinds: m.Kinds, Once: m.Once}
	if err := q.check(); err != nil {
		return err
	}
	if err := s.host.Events(ctx, q, stream.Send); err != nil {
		return wireError(ctx, err)
	}

	return nil
}

// Streaming is the handler of a stream: it ends with until, too, and cuts off a client that takes
// nothing.
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

// deadlined gives each write its own deadline.
type deadlined struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (d *deadlined) Write(b []byte) (int, error) {
	// A writer without deadlines, as of a test's recorder, has no client that could stall.
	_ = d.control.SetWriteDeadline(time.Now().Add(stalled))
	return d.ResponseWriter.Write(b)
}

// Flush hands on what was written.
func (d *deadlined) Flush() {
	_ = d.control.SetWriteDeadline(time.Now().Add(stalled))
	_ = d.control.Flush() // the next write tells what is wrong
}

// Unwrap is for http.ResponseController.
func (d *deadlined) Unwrap() http.ResponseWriter { return d.ResponseWriter }
