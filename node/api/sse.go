package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/coppice-go/coppice/client"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// EventsHandler returns a handler that serves the stream of events to browsers, as server-sent
// events:
//
//	GET /events?filter=kind=BlockCommitted&after=12&kinds=TxLaunched,BlockCommitted
//
// Each event has the name record, tree or dropped. Its data is the JSON of client.Event, and its id
// is the cursor, so that an EventSource that reconnects with Last-Event-ID continues where it was.
// Without after, the stream begins now. While nothing happens, the handler sends comments.
//
// An EventSource cannot read the status and body of an answer, and never tries again after one with
// another status than 200. Therefore a client that accepts text/event-stream is told in the stream
// of what may pass or must be known: an event called gone for a cursor that the log does not have,
// whose id lets the client begin again with the oldest record, and one called failed for a node
// that cannot serve the stream at the moment. Every other client gets 410 or 503.
//
// The listener refuses pages of another origin and requests without a token: see SameOrigin and
// Guard.
func EventsHandler(src EventSource) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.Header().Set("Allow", http.MethodGet)
			http.Error(w, "want GET", http.StatusMethodNotAllowed)
			return
		}

		q, err := eventsQuery(r)
		if err != nil {
			httpError(w, err)
			return
		}

		s := sse{w: w, tell: wantsEvents(r)}
		if err := src.Events(r.Context(), q, s.send); err != nil {
			s.fail(wireError(r.Context(), err))
		}
	})
}

// eventsQuery reads the query of a GET. A Last-Event-ID, which a returning client sends, overrides
// the cursor in the query.
func eventsQuery(r *http.Request) (EventsQuery, error) {
	q := EventsQuery{FromNow: true}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return q, invalid("query", "%w", err)
	}

	after, from := r.Header.Get("Last-Event-ID"), "Last-Event-ID"

	for name, v := range values {
		switch name {
		case "filter":
			q.Filter = v[0]

		case "kinds":
			for _, list := range v {
				q.Kinds = append(q.Kinds, strings.Split(list, ",")...)
			}
			q.Kinds = slices.DeleteFunc(q.Kinds, func(k string) bool { return k == "" })

		case "after":
			if after == "" {
				after, from = v[0], "after"
			}

		default:
			return q, invalid("query", "unknown parameter %q, want filter, kinds or after", name)
		}
		if name != "kinds" && len(v) > 1 {
			return q, invalid(name, "given %d times, want once", len(v))
		}
	}

	if after != "" {
		c, err := client.ParseCursor(after)
		if err != nil {
			return q, invalid(from, "%q is no cursor, want the id of an event", after)
		}
		q.After, q.History, q.FromNow = c.Index, c.History, false
	}

	return q, q.check()
}

// httpError answers with an error as text.
func httpError(w http.ResponseWriter, err error) { http.Error(w, message(err), statusOf(err)) }

// statusOf returns the HTTP status of an error.
func statusOf(err error) int {
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument:
		return http.StatusBadRequest

	case connect.CodeUnauthenticated:
		return http.StatusUnauthorized

	case connect.CodePermissionDenied:
		return http.StatusForbidden

	case connect.CodeOutOfRange, connect.CodeFailedPrecondition: // the records after the cursor
		return http.StatusGone

	case connect.CodeResourceExhausted, connect.CodeUnavailable:
		return http.StatusServiceUnavailable
	}

	return http.StatusInternalServerError
}

// message returns the text of a wire error, without its code.
func message(err error) string {
	if wire := new(connect.Error); errors.As(err, &wire) {
		return wire.Message()
	}
	return err.Error()
}

// wantsEvents reports whether the client accepts server-sent events by name, as an EventSource
// does.
func wantsEvents(r *http.Request) bool {
	for _, accept := range r.Header.Values("Accept") {
		for kind := range strings.SplitSeq(accept, ",") {
			kind, _, _ = strings.Cut(kind, ";")
			if strings.EqualFold(strings.TrimSpace(kind), "text/event-stream") {
				return true
			}
		}
	}
	return false
}

// sse writes a stream of events as server-sent events.
type sse struct {
	w     http.ResponseWriter
	begun bool
	tell  bool // tell the client in the stream of what it should know, even before the stream has begun
}

func (s *sse) begin() {
	if s.begun {
		return
	}

	s.begun = true
	h := s.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Accel-Buffering", "no") // a proxy that buffers would delay events
	s.w.WriteHeader(http.StatusOK)
}

// send writes one event. For a message without an event, it writes a comment, which shows proxies
// that the stream is alive, and the cursor as an id. By the standard, an EventSource keeps that id
// without notifying its page.
func (s *sse) send(m *apiv1.EventsResponse) error {
	s.begin()
	e, err := client.EventOf(m)
	if err != nil {
		return err
	}

	var b []byte
	if m.Event == nil {
		b = append(b, ": alive\n"...)
	}
	if m.Cursor != nil {
		b = fmt.Appendf(b, "id: %v\n", client.Cursor{History: m.History, Index: *m.Cursor})
	}

	if m.Event != nil {
		data, err := json.Marshal(e)
		if err != nil {
			return err
		}
		b = fmt.Appendf(b, "event: %s\ndata: %s\n", e.Type(), data)
	}

	return s.write(append(b, '\n'))
}

func (s *sse) write(b []byte) error {
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	return http.NewResponseController(s.w).Flush()
}

// Pauses after which an EventSource comes back: after a stream that ended because its cursor is
// gone, and because the node could not serve it.
const (
	retryGone = 100 * time.Millisecond // it begins with another cursor
	retryDown = 5 * time.Second
)

// fail writes the reason why the stream ends, if the client is still there.
func (s *sse) fail(err error) {
	status := statusOf(err)
	if !s.begun && !(s.tell && (status == http.StatusGone || status == http.StatusServiceUnavailable)) {
		httpError(s.w, err)
		return
	}
	s.begin()

	data, _ := json.Marshal(map[string]string{"code": connect.CodeOf(err).String(), "error": message(err)})
	name, retry := "failed", retryDown

	var b []byte
	if status == http.StatusGone {
		name, retry = "gone", retryGone
		b = append(b, "id: 0\n"...) // the client comes back with it: 0 is the oldest record
	}

	b = fmt.Appendf(b, "retry: %d\nevent: %s\ndata: %s\n\n", retry.Milliseconds(), name, data)
	_ = s.write(b) // if the client is gone, it reads nothing
}
