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
// the tree, of changes of the readiness, and of those of the process of the consensus.
func EventKinds() []string {
	return append(append(chain.KindNames(), TreeKinds()...), ReadinessKind, ProcessKind)
}

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
	h = unhurried(h)

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancelCause(r.Context())
		defer cancel(nil)
		defer context.AfterFunc(until, func() {
			cancel(fmt.Errorf("%w: the listener is stopping", ErrUnavailable))
		})()

		h.ServeHTTP(w, r.WithContext(ctx))
	})
}

// unhurried returns a handler that passes requests to h, which may take any time. The client has to
// take what h writes: each write, with the flush after it, has a deadline of its own.
func unhurried(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d := &deadlined{w, http.NewResponseController(w), time.Now()}
		d.disarm()
		h.ServeHTTP(d, r)

		if r.ProtoMajor == 1 {
			_ = d.control.SetWriteDeadline(time.Time{}) // the connection may serve other requests
		} else {
			d.arm() // the rest is sent after the return
		}
	})
}

// deadlined is a ResponseWriter that gives each write, with the flush after it, a deadline of its
// own. Between them there is none: with HTTP/2 a deadline ends the stream even if nothing is being
// written.
type deadlined struct {
	http.ResponseWriter
	control *http.ResponseController
	armed   time.Time // when the deadline was set; zero: there is none
}

// arm sets the deadline, unless it was set just now. Only a test's recorder has no deadlines, and
// it has no client that could stall.
func (d *deadlined) arm() {
	if now := time.Now(); now.Sub(d.armed) > time.Second {
		d.armed = now
		_ = d.control.SetWriteDeadline(now.Add(stalled))
	}
}

func (d *deadlined) disarm() {
	if !d.armed.IsZero() {
		d.armed = time.Time{}
		_ = d.control.SetWriteDeadline(time.Time{})
	}
}

func (d *deadlined) Write(b []byte) (int, error) {
	d.arm()
	return d.ResponseWriter.Write(b)
}

// Flush sends the bytes that were written so far to the client.
func (d *deadlined) Flush() {
	d.arm()
	_ = d.control.Flush() // the next write returns the error
	d.disarm()
}

// Unwrap returns the underlying writer, for http.ResponseController.
func (d *deadlined) Unwrap() http.ResponseWriter { return d.ResponseWriter }
