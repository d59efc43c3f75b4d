package api_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/node/api"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
	"github.com/coppice-go/coppice/pubsub"
	"github.com/coppice-go/coppice/supervisor"
)

// scripted is an EventSource that sends what the test says, and stores the queries that it
// received, possibly from several streams at once.
type scripted struct {
	events []*apiv1.EventsResponse
	end    error
	hold   bool // the stream stays open until its context ends
	left   chan error

	mu    sync.Mutex
	asked []api.EventsQuery
}

func (s *scripted) queries() []api.EventsQuery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

func (s *scripted) Events(ctx context.Context, q api.EventsQuery, send func(*apiv1.EventsResponse) error) error {
	s.mu.Lock()
	s.asked = append(s.asked, q)
	s.mu.Unlock()

	for _, e := range s.events {
		if err := send(e); err != nil {
			return err
		}
	}

	if s.hold {
		<-ctx.Done()
		s.left <- context.Cause(ctx)
		return context.Cause(ctx)
	}

	return s.end
}

func at(cursor uint64) *apiv1.EventsResponse { return &apiv1.EventsResponse{Cursor: &cursor} }

func recordAt(t *testing.T, cursor uint64, kind string, m proto.Message) *apiv1.EventsResponse {
	t.Helper()
	data, err := proto.Marshal(m)
	require.NoError(t, err)
	return &apiv1.EventsResponse{Cursor: &cursor,
		Event: &apiv1.EventsResponse_Record{Record: &apiv1.LogRecord{Kind: kind, Record: data}}}
}

func treeAt(cursor uint64, e supervisor.Event) *apiv1.EventsResponse {
	return &apiv1.EventsResponse{Cursor: &cursor, Event: &apiv1.EventsResponse_Tree{Tree: api.TreeEventOf(e)}}
}

func exited() supervisor.ChildExited {
	return supervisor.ChildExited{
		Header: supervisor.Header{Seq: 7, Root: "host", Path: "coppice/node/router", Incarnation: 9},
		Exit:   supervisor.Exit{Class: supervisor.Abnormal, Err: errors.New("boom")},
	}
}

func sseGet(t *testing.T, srv *httptest.Server, query string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/events"+query, nil)
	require.NoError(t, err)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}

	res, err := srv.Client().Do(req)
	require.NoError(t, err)
	defer res.Body.Close()

	var body strings.Builder
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		body.WriteString(lines.Text() + "\n")
	}

	return res, body.String()
}

// The wire form follows the standard of server-sent events (HTML, 9.2): a block without data moves
// the last event id without any page seeing it, and a colon begins a comment.
func TestServerSentEvents(t *testing.T) {
	src := &scripted{events: []*apiv1.EventsResponse{
		at(3),
		recordAt(t, 4, "TxLaunched", &logv1.TxLaunched{Tx: []byte("x"), ReceivedNs: 5}),
		treeAt(4, exited()),
		{Event: &apiv1.EventsResponse_Dropped{Dropped: &apiv1.Dropped{Count: 2}}},
	}}
	srv := httptest.NewServer(api.EventsHandler(src))
	defer srv.Close()

	res, body := sseGet(t, srv, "?filter=type=record&kinds=TxLaunched,ChildExited&after=3")
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, "text/event-stream", res.Header.Get("Content-Type"))
	require.Equal(t, "no-store", res.Header.Get("Cache-Control"))
	require.Empty(t, res.Header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, `: alive
id: 3

id: 4
event: record
data: {"cursor":4,"type":"record","kind":"TxLaunched","record":{"tx":"eA==","received_ns":"5"}}

id: 4
event: tree
data: {"cursor":4,"type":"tree","kind":"ChildExited","seq":7,"time":"1970-01-01T00:00:00Z","path":"coppice/node/router","incarnation":9,"class":"abnormal","reason":"boom","text":"coppice/node/router: permanent child ended after 0s: boom"}

event: dropped
data: {"type":"dropped","dropped":2}

`, body)

	require.Equal(t, []api.EventsQuery{{After: 3, Filter: "type=record", Kinds: []string{"TxLaunched", "ChildExited"}}},
		src.queries())
}

func TestWhereAStreamBegins(t *testing.T) {
	for _, tt := range []struct {
		name, query, last string
		want              api.EventsQuery
	}{
		{"now", "", "", api.EventsQuery{FromNow: true}},
		{"after", "?after=0", "", api.EventsQuery{}},
		{"a client that comes back", "", "12", api.EventsQuery{After: 12}},
		{"a client that comes back by the address it began with", "?after=5", "12", api.EventsQuery{After: 12}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src := &scripted{}
			srv := httptest.NewServer(api.EventsHandler(src))
			defer srv.Close()

			header := []string{}
			if tt.last != "" {
				header = append(header, "Last-Event-ID", tt.last)
			}

			sseGet(t, srv, tt.query, header...)
			require.Equal(t, []api.EventsQuery{tt.want}, src.queries())
		})
	}
}

// I10: bad input gets a clear error that names the field and the problem, before the stream begins,
// so that an EventSource does not try again.
func TestBadStreamsAreNamed(t *testing.T) {
	src := &scripted{}
	srv := httptest.NewServer(api.EventsHandler(src))
	defer srv.Close()

	for _, tt := range []struct {
		name, query string
		end         error
		header      []string
		status      int
		text        string
	}{
		{"unknown parameter", "?filtre=x", nil, nil, 400,
			`query: unknown parameter "filtre", want filter, kinds or after`},
		{"no cursor", "?after=x", nil, nil, 400, `after: "x" is no cursor`},
		{"no cursor to come back to", "", nil, []string{"Last-Event-ID", "-1"}, 400,
			`Last-Event-ID: "-1" is no cursor`},
		{"twice", "?after=1&after=2", nil, nil, 400, "after: given 2 times"},
		{"unknown kind", "?kinds=Nonsense", nil, nil, 400, `kinds: unknown kind of event "Nonsense", want some of`},
		{"long filter", "?filter=" + strings.Repeat("x", 17<<10), nil, nil, 400, "filter: 17408 bytes"},
		{"bad filter", "?filter=x", fmt.Errorf("filter: %w: at byte 0", pubsub.ErrFilter), nil, 400,
			"filter: pubsub: bad filter: at byte 0"},
		{"records are gone", "?after=1", fmt.Errorf("%w: 2", api.ErrNoRecord), nil, 410, "no such record: 2"},
		{"of another log", "?after=9", fmt.Errorf("%w: cursor 9", api.ErrBeyond), nil, 410,
			"beyond the log's end: cursor 9"},
		{"too many", "", api.ErrBusy, nil, 503, "too many streams"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src.end = tt.end
			res, body := sseGet(t, srv, tt.query, tt.header...)
			require.Equal(t, tt.status, res.StatusCode, body)
			require.Contains(t, body, tt.text)
		})
	}

	res, err := srv.Client().Post(srv.URL, "", nil)
	require.NoError(t, err)
	defer res.Body.Close()

	require.Equal(t, http.StatusMethodNotAllowed, res.StatusCode)
}

// An EventSource cannot read an answer with another status than 200, and never tries again after
// one. It is told in the stream of a cursor that is gone, and comes back with the id that it was
// given; what cannot be mended by another attempt keeps its status.
func TestAnEventSourceIsToldInTheStream(t *testing.T) {
	accept := []string{"Accept", "text/event-stream", "Last-Event-ID", "9"}

	for _, tt := range []struct {
		name, query string
		end         error
		status      int
		body        string
	}{
		{"records are gone", "", fmt.Errorf("%w: 10", api.ErrNoRecord), 200,
			"id: 0\nretry: 100\nevent: gone\ndata: {\"code\":\"out_of_range\",\"error\":\"no such record: 10\"}\n\n"},
		{"of another log", "", fmt.Errorf("%w: cursor 9", api.ErrBeyond), 200, "id: 0\nretry: 100\nevent: gone\n"},
		{"too many", "", api.ErrBusy, 200, "retry: 5000\nevent: failed\ndata: {\"code\":\"resource_exhausted\""},
		{"the node is down", "", api.ErrUnavailable, 200,
			"retry: 5000\nevent: failed\ndata: {\"code\":\"unavailable\""},
		{"unknown parameter", "?filtre=x", nil, 400, "query: unknown parameter"},
		{"bad filter", "?filter=x", fmt.Errorf("filter: %w: at byte 0", pubsub.ErrFilter), 400, "filter: pubsub: bad"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(api.EventsHandler(&scripted{end: tt.end}))
			defer srv.Close()

			res, body := sseGet(t, srv, tt.query, accept...)
			require.Equal(t, tt.status, res.StatusCode, body)
			require.Contains(t, "\n"+body, "\n"+tt.body)

			if tt.status == http.StatusOK {
				require.Equal(t, "text/event-stream", res.Header.Get("Content-Type"))
			}
		})
	}
}

// The id of gone is a cursor that every log has.
func TestAfterGoneAnEventSourceBeginsAgain(t *testing.T) {
	src := &scripted{}
	srv := httptest.NewServer(api.EventsHandler(src))
	defer srv.Close()

	sseGet(t, srv, "?after=9", "Accept", "text/event-stream", "Last-Event-ID", "0")
	require.Equal(t, []api.EventsQuery{{After: 0}}, src.queries())
}

// An error after the stream has begun is sent as an event of its own.
func TestAStreamSaysWhyItEnds(t *testing.T) {
	src := &scripted{events: []*apiv1.EventsResponse{at(3)}, end: fmt.Errorf("%w: 4", api.ErrNoRecord)}
	srv := httptest.NewServer(api.EventsHandler(src))
	defer srv.Close()
	_, body := sseGet(t, srv, "")
	require.Contains(t, body, "id: 0\nretry: 100\nevent: gone\n"+
		"data: {\"code\":\"out_of_range\",\"error\":\"no such record: 4\"}\n")

	src.end = api.ErrUnavailable
	_, body = sseGet(t, srv, "")
	require.Contains(t, body, "retry: 5000\nevent: failed\ndata: {\"code\":\"unavailable\"")
}

// The admin child ends its streams when it stops, so that a client that only listens cannot delay
// an orderly stop. A client that leaves ends its own stream.
func TestStreamsEndWithTheirListener(t *testing.T) {
	src := &scripted{events: []*apiv1.EventsResponse{at(3)}, hold: true, left: make(chan error, 2)}
	streams, end := context.WithCancel(t.Context())
	defer end()

	srv := httptest.NewServer(api.Streaming(streams, api.EventsHandler(src)))
	defer srv.Close()

	gone, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(gone, http.MethodGet, srv.URL, nil)
	require.NoError(t, err)
	res, err := srv.Client().Do(req)
	require.NoError(t, err)
	leave()
	res.Body.Close()
	require.ErrorIs(t, <-src.left, context.Canceled)

	ended := make(chan string)
	go func() {
		_, body := sseGet(t, srv, "")
		ended <- body
	}()

	res, err = srv.Client().Get(srv.URL) // a second stream, to know that streams run
	require.NoError(t, err)
	res.Body.Close()
	<-src.left
	end()
	require.ErrorIs(t, <-src.left, api.ErrUnavailable)
	require.Contains(t, <-ended, "the listener is stopping")
}

func TestEventsOverConnect(t *testing.T) {
	h := &fakeHost{scripted: scripted{events: []*apiv1.EventsResponse{at(3), treeAt(3, exited())}}}
	c := serveAdmin(t, h)
	stream, err := c.Events(t.Context(),
		connect.NewRequest(&apiv1.EventsRequest{After: 3, Filter: "a", Kinds: []string{"Killed"}, Once: true}))
	require.NoError(t, err)
	defer stream.Close()

	require.True(t, stream.Receive())
	require.EqualValues(t, 3, stream.Msg().GetCursor())
	require.True(t, stream.Receive())
	require.Equal(t, "boom", stream.Msg().GetTree().GetReason())
	require.False(t, stream.Receive())
	require.NoError(t, stream.Err())
	require.Equal(t, []api.EventsQuery{{After: 3, Filter: "a", Kinds: []string{"Killed"}, Once: true}}, h.queries())

	bad, err := c.Events(t.Context(), connect.NewRequest(&apiv1.EventsRequest{Kinds: []string{"Nonsense"}}))
	require.NoError(t, err)
	defer bad.Close()

	require.False(t, bad.Receive())
	require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(bad.Err()))
}

// Every event of a tree has a name of its own, and gives its reason if it has one.
func TestTreeEvents(t *testing.T) {
	names := api.TreeKinds()
	seen := map[string]bool{}

	for _, n := range names {
		require.NotEmpty(t, n)
		require.False(t, seen[n], n)
		seen[n] = true
	}

	class, reason := api.Reason(exited())
	require.Equal(t, apiv1.ExitClass_EXIT_CLASS_ABNORMAL, class)
	require.Equal(t, "boom", reason)
	_, reason = api.Reason(supervisor.Killed{Reason: errors.New("asked for")})
	require.Equal(t, "asked for", reason)
}
