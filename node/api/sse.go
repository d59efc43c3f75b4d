package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

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
// It refuses requests from pages of another origin. If token is not empty, it requires the token as
// a bearer token.
func EventsHandler(src EventSource, token string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.Header().Set("Allow", http.MethodGet)
			http.Error(w, "want GET", http.StatusMethodNotAllowed)
			return
		}

		if err := sameOrigin(r); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}

		if token != "" {
			if err := authorize(r.Header, token); err != nil {
				httpError(w, err)
				return
			}
		}

		q, err := eventsQuery(r)
		if err != nil {
			httpError(w, err)
			return
		}

		s := sse{w: w}
		if err := src.Events(r.Context(), q, s.send); err != nil {
			s.fail(wireError(r.Context(), err))
		}
	})
}

// sameOrigin returns an error if a browser made the request for a page of another site. Clients
// other than browsers send no origin.
func sameOrigin(r *http.Request) error {
	origin := r.Header.Get("Origin")
	if origin == "" {
		if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" {
			return errors.New("the request comes from a page of another site")
		}
		return nil
	}

	if u, err := url.Parse(origin); err != nil || u.Host != r.Host {
		return fmt.Errorf("origin: %q is not %q: a page of another site may not read this", origin, r.Host)
	}
	return nil
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

// httpError answers with an error before the stream has begun.
func httpError(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument:
		status = http.StatusBadRequest

	case connect.CodeUnauthenticated:
		w.Header().Set("WWW-Authenticate", "Bearer")
		status = http.StatusUnauthorized

	case connect.CodePermissionDenied:
		status = http.StatusForbidden

	case connect.CodeOutOfRange, connect.CodeFailedPrecondition: // the records after the cursor
		status = http.StatusGone

	case connect.CodeResourceExhausted, connect.CodeUnavailable:
		status = http.StatusServiceUnavailable
	}

	http.Error(w, message(err), status)
}

// message returns the text of a wire error, without its code.
func message(err error) string {
	if wire := new(connect.Error); errors.As(err, &wire) {
		return wire.Message()
	}
	return err.Error()
}

// sse writes a stream of events as server-sent events.
type sse struct {
	w     http.ResponseWriter
	begun bool
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

// fail writes the reason why the stream ends, if the client is still there.
func (s *sse) fail(err error) {
	if !s.begun {
		httpError(s.w, err)
		return
	}
	data, _ := json.Marshal(map[string]string{"code": connect.CodeOf(err).String(), "error": message(err)})
	_ = s.write(fmt.Appendf(nil, "event: failed\ndata: %s\n\n", data)) // if the client is gone, it reads nothing
}
