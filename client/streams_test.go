package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/chain"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// round is what one call of a stream sends before it ends with err.
type round[R any] struct {
	send []*R
	err  error
}

// peer is a node of which the test scripts each call. A call takes the next round.
type peer struct {
	apiv1connect.UnimplementedNodeServiceHandler
	apiv1connect.UnimplementedAdminServiceHandler
	apiv1connect.UnimplementedSnapshotServiceHandler

	mu       sync.Mutex
	tokens   []string // of each call
	follows  []round[apiv1.FollowResponse]
	followed []*apiv1.FollowRequest
	events   []round[apiv1.EventsResponse]
	asked    []*apiv1.EventsRequest
	statuses []func() (*apiv1.StatusResponse, error)
	health   *apiv1.HealthResponse
	txs      []*apiv1.TxOutcome
	backup   []*apiv1.BackupResponse
	lists    int // how often Snapshots was asked
}

func servePeer(t *testing.T, p *peer, opts ...client.Option) *client.Client {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(apiv1connect.NewNodeServiceHandler(p))
	mux.Handle(apiv1connect.NewAdminServiceHandler(p))
	mux.Handle(apiv1connect.NewSnapshotServiceHandler(p))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.tokens = append(p.tokens, r.Header.Get("Authorization"))
		p.mu.Unlock()
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)

	return dial(t, srv.URL, append([]client.Option{client.WithToken("secret"),
		client.WithHTTPClient(&http.Client{Transport: &http.Transport{}})}, opts...)...)
}

func unavailable() error { return connect.NewError(connect.CodeUnavailable, errors.New("restarting")) }

// next takes the next round and stores the request.
func next[Q, R any](p *peer, rounds *[]round[R], requests *[]*Q, q *Q) round[R] {
	p.mu.Lock()
	defer p.mu.Unlock()

	*requests = append(*requests, q)
	if len(*rounds) == 0 {
		return round[R]{err: connect.NewError(connect.CodeInvalidArgument, errors.New("the script is over"))}
	}
	r := (*rounds)[0]
	*rounds = (*rounds)[1:]

	return r
}

func play[R any](r round[R], out *connect.ServerStream[R]) error {
	for _, m := range r.send {
		if err := out.Send(m); err != nil {
			return err
		}
	}
	return r.err
}

func (p *peer) Follow(_ context.Context, q *connect.Request[apiv1.FollowRequest],
	out *connect.ServerStream[apiv1.FollowResponse]) error {
	return play(next(p, &p.follows, &p.followed, q.Msg), out)
}

func (p *peer) Events(_ context.Context, q *connect.Request[apiv1.EventsRequest],
	out *connect.ServerStream[apiv1.EventsResponse]) error {
	return play(next(p, &p.events, &p.asked, q.Msg), out)
}

func (p *peer) Status(context.Context, *connect.Request[apiv1.StatusRequest]) (*connect.Response[apiv1.StatusResponse],
	error) {
	p.mu.Lock()
	answer := p.statuses[0]
	if len(p.statuses) > 1 {
		p.statuses = p.statuses[1:]
	}
	p.mu.Unlock()

	s, err := answer()
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(s), nil
}

func (p *peer) Health(context.Context, *connect.Request[apiv1.HealthRequest]) (*connect.Response[apiv1.HealthResponse],
	error) {
	if p.health == nil {
		return nil, unavailable()
	}
	return connect.NewResponse(p.health), nil
}

func (p *peer) Get(_ context.Context, q *connect.Request[apiv1.GetRequest]) (*connect.Response[apiv1.GetResponse],
	error) {
	if !q.Msg.Consistent { // an answer for another question
		return connect.NewResponse(&apiv1.GetResponse{Height: 1}), nil
	}
	return connect.NewResponse(&apiv1.GetResponse{Height: 7, Values: []*apiv1.Value{{Found: true}}}), nil
}

func (p *peer) GetTx(context.Context, *connect.Request[apiv1.GetTxRequest]) (*connect.Response[apiv1.GetTxResponse],
	error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.txs) == 0 {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("never heard of it"))
	}
	o := p.txs[0]
	p.txs = p.txs[1:]
	return connect.NewResponse(&apiv1.GetTxResponse{Outcome: o}), nil
}

func (p *peer) Tree(context.Context, *connect.Request[apiv1.TreeRequest]) (*connect.Response[apiv1.TreeResponse], error) {
	return connect.NewResponse(&apiv1.TreeResponse{Root: &apiv1.Child{Path: "host"}}), nil
}

func (p *peer) Spec(context.Context, *connect.Request[apiv1.SpecRequest]) (*connect.Response[apiv1.SpecResponse], error) {
	return connect.NewResponse(&apiv1.SpecResponse{Text: "the plan"}), nil
}

func (p *peer) HostStatus(context.Context,
	*connect.Request[apiv1.HostStatusRequest]) (*connect.Response[apiv1.HostStatusResponse], error) {
	return connect.NewResponse(&apiv1.HostStatusResponse{Pid: 42}), nil
}

func (p *peer) Stop(context.Context, *connect.Request[apiv1.StopRequest]) (*connect.Response[apiv1.StopResponse], error) {
	return connect.NewResponse(&apiv1.StopResponse{Pid: 42}), nil
}

func (p *peer) Kill(_ context.Context, q *connect.Request[apiv1.KillRequest]) (*connect.Response[apiv1.KillResponse],
	error) {
	if q.Msg.ReleaseAfter.AsDuration() != 3*time.Second {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("release_after"))
	}
	return connect.NewResponse(&apiv1.KillResponse{Path: q.Msg.Path}), nil
}

func (p *peer) CreateSnapshot(context.Context, *connect.Request[apiv1.CreateSnapshotRequest]) (
	*connect.Response[apiv1.CreateSnapshotResponse], error) {
	return connect.NewResponse(&apiv1.CreateSnapshotResponse{Snapshot: &apiv1.Snapshot{Id: "0-1-2"}, Fresh: true}), nil
}

func (p *peer) OfferSnapshot(context.Context, *connect.Request[apiv1.OfferSnapshotRequest]) (
	*connect.Response[apiv1.OfferSnapshotResponse], error) {
	return connect.NewResponse(&apiv1.OfferSnapshotResponse{Height: 9}), nil
}

func (p *peer) ListSnapshots(context.Context, *connect.Request[apiv1.ListSnapshotsRequest]) (
	*connect.Response[apiv1.ListSnapshotsResponse], error) {
	if p.lists++; p.lists == 1 {
		return nil, unavailable()
	}
	return connect.NewResponse(&apiv1.ListSnapshotsResponse{Snapshots: []*apiv1.Snapshot{{Id: "0-1-2"}}}), nil
}

func (p *peer) Retention(context.Context,
	*connect.Request[apiv1.RetentionRequest]) (*connect.Response[apiv1.RetentionResponse], error) {
	return connect.NewResponse(&apiv1.RetentionResponse{Retain: "all"}), nil
}

func (p *peer) Backup(_ context.Context, _ *connect.Request[apiv1.BackupRequest],
	out *connect.ServerStream[apiv1.BackupResponse]) error {
	return play(round[apiv1.BackupResponse]{send: p.backup}, out)
}

// expired is a record of the log, as the API sends it.
func expired(t *testing.T) (kind string, data []byte) {
	data, err := proto.Marshal(&logv1.TxExpired{Id: make([]byte, 32)})
	require.NoError(t, err)
	return "TxExpired", data
}

// Follow goes on behind the last record that it has passed on, with its history, however often the
// stream breaks.
func TestFollowGoesOnWhereItWas(t *testing.T) {
	kind, data := expired(t)
	record := func(i uint64) *apiv1.FollowResponse {
		return &apiv1.FollowResponse{Index: i, History: "h1", Kind: kind, Record: data}
	}
	p := &peer{follows: []round[apiv1.FollowResponse]{
		{err: unavailable()},
		{send: []*apiv1.FollowResponse{record(5), {Index: 8, History: "h1"}}, err: unavailable()},
		{send: []*apiv1.FollowResponse{record(9), record(10)}},
	}}

	var got []uint64
	enough := errors.New("enough")
	err := servePeer(t, p).Follow(t.Context(), client.FromNow, []string{kind}, func(r client.Record) error {
		got = append(got, r.Index)
		require.Equal(t, "h1", r.History)
		require.IsType(t, &logv1.TxExpired{}, r.Message)
		if r.Index == 10 {
			return enough
		}
		return nil
	})
	require.Equal(t, enough, err, "the error of the function, as it is")
	require.Equal(t, []uint64{5, 9, 10}, got)

	require.Len(t, p.followed, 3)
	require.True(t, p.followed[0].FromNow)
	require.True(t, p.followed[1].FromNow, "nothing has come yet")
	require.Equal(t, []any{uint64(8), "h1", false}, []any{p.followed[2].After, p.followed[2].History,
		p.followed[2].FromNow})
	require.Equal(t, "Bearer secret", p.tokens[0])
}

func TestFollowEndsWhereNoAttemptHelps(t *testing.T) {
	kind, _ := expired(t)
	for want, r := range map[string]round[apiv1.FollowResponse]{
		"gone":                     {err: connect.NewError(connect.CodeOutOfRange, errors.New("gone"))},
		`does not know "Nonsense"`: {send: []*apiv1.FollowResponse{{Index: 1, Kind: "Nonsense"}}},
		"TxExpired":                {send: []*apiv1.FollowResponse{{Index: 1, Kind: kind, Record: []byte("garbage")}}},
	} {
		p := &peer{follows: []round[apiv1.FollowResponse]{r}}
		err := servePeer(t, p).FollowFrom(t.Context(), client.Cursor{History: "h", Index: 3}, nil,
			func(client.Record) error { return nil })
		require.ErrorContains(t, err, want)
		require.Equal(t, "h", p.followed[0].History)
	}

	ctx, cancel := context.WithCancelCause(t.Context())
	over := errors.New("over")
	p := &peer{follows: []round[apiv1.FollowResponse]{{send: []*apiv1.FollowResponse{{Index: 1}}, err: unavailable()}}}
	cancel(over)
	require.ErrorIs(t, servePeer(t, p).Follow(ctx, 0, nil, nil), over)
}

func TestEventsOfAllTypes(t *testing.T) {
	kind, data := expired(t)
	at := func(i uint64, e *apiv1.EventsResponse) *apiv1.EventsResponse {
		e.Cursor, e.History = &i, "h1"
		return e
	}
	record := &apiv1.EventsResponse{Event: &apiv1.EventsResponse_Record{Record: &apiv1.LogRecord{Kind: kind,
		Record: data}}}
	tree := &apiv1.EventsResponse{Event: &apiv1.EventsResponse_Tree{Tree: &apiv1.TreeEvent{Seq: 3,
		Time: timestamppb.New(time.Unix(1, 0)), Kind: "ChildExited", Path: "a/b", Incarnation: 2, Text: "it ended",
		Class: apiv1.ExitClass_EXIT_CLASS_ABNORMAL, Reason: "panic", Delay: durationpb.New(time.Second)}}}
	ready := &apiv1.EventsResponse{Event: &apiv1.EventsResponse_Readiness{Readiness: &apiv1.Readiness{State: "ready",
		Since: timestamppb.New(time.Unix(2, 0))}}}
	dropped := &apiv1.EventsResponse{Event: &apiv1.EventsResponse_Dropped{Dropped: &apiv1.Dropped{Count: 4}}}

	p := &peer{events: []round[apiv1.EventsResponse]{
		{send: []*apiv1.EventsResponse{at(6, &apiv1.EventsResponse{}), at(7, record), tree}, err: unavailable()},
		{send: []*apiv1.EventsResponse{ready, dropped}},
	}}
	var types, lines []string
	require.NoError(t, servePeer(t, p).Events(t.Context(), client.EventsOptions{After: client.FromNow, Once: true,
		Filter: "class=abnormal", Kinds: []string{kind}}, func(e client.Event) error {
		types = append(types, e.Type())
		line, err := json.Marshal(e)
		require.NoError(t, err)
		lines = append(lines, string(line))
		return nil
	}))

	require.Equal(t, []string{"cursor", "record", "tree", "readiness", "dropped"}, types)
	require.JSONEq(t, `{"cursor": 6, "history": "h1", "type": "cursor"}`, lines[0])
	require.Contains(t, lines[1], `"cursor":7,"history":"h1","type":"record","kind":"TxExpired","record":{"id":`)
	require.JSONEq(t, `{"type": "tree", "kind": "ChildExited", "seq": 3, "time": "1970-01-01T00:00:01Z", "path": "a/b",
		"incarnation": 2, "class": "abnormal", "reason": "panic", "delay_seconds": 1, "text": "it ended"}`, lines[2])
	require.JSONEq(t, `{"type": "readiness", "kind": "ReadinessChanged", "time": "1970-01-01T00:00:02Z",
		"state": "ready", "ready": true}`, lines[3])
	require.JSONEq(t, `{"type": "dropped", "dropped": 4}`, lines[4])

	require.Len(t, p.asked, 2)
	require.True(t, p.asked[0].FromNow)
	require.Equal(t, []any{uint64(7), "h1", false, "class=abnormal", true}, []any{p.asked[1].After, p.asked[1].History,
		p.asked[1].FromNow, p.asked[1].Filter, p.asked[1].Once})
}

func TestEventsThatCannotBe(t *testing.T) {
	kind, data := expired(t)
	record := func(kind string, cursor *uint64) *apiv1.EventsResponse {
		return &apiv1.EventsResponse{Cursor: cursor,
			Event: &apiv1.EventsResponse_Record{Record: &apiv1.LogRecord{Kind: kind, Record: data}}}
	}
	two := uint64(2)
	for want, e := range map[string]*apiv1.EventsResponse{
		"without its index":        record(kind, nil),
		`does not know "Nonsense"`: record("Nonsense", &two),
		"record 2 again, after 2":  record(kind, &two),
	} {
		p := &peer{events: []round[apiv1.EventsResponse]{{send: []*apiv1.EventsResponse{e}}}}
		err := servePeer(t, p).Events(t.Context(), client.EventsOptions{After: 2}, func(client.Event) error { return nil })
		require.ErrorContains(t, err, want)
	}

	p := &peer{events: []round[apiv1.EventsResponse]{{err: connect.NewError(connect.CodeInvalidArgument,
		errors.New("no such filter"))}}}
	require.ErrorContains(t, servePeer(t, p).Events(t.Context(), client.EventsOptions{Filter: "x"}, nil), "no such filter")
}

func TestCursorIsText(t *testing.T) {
	for _, c := range []client.Cursor{{Index: 5}, {History: "ab", Index: 0}, {History: "ab", Index: 1 << 40}} {
		back, err := client.ParseCursor(c.String())
		require.NoError(t, err)
		require.Equal(t, c, back)
	}
	for _, bad := range []string{"", "x", "-3", ":5", "ab:", "ab:x", "ab:5:6"} {
		_, err := client.ParseCursor(bad)
		require.ErrorContains(t, err, "is no cursor, want an index, or history:index", bad)
	}
}

// WatchReady tells each state once, and ends when the node is ready.
func TestWatchReadyTellsWhyItWaits(t *testing.T) {
	waiting := func(state, reason string) func() (*apiv1.StatusResponse, error) {
		return func() (*apiv1.StatusResponse, error) {
			return &apiv1.StatusResponse{Readiness: &apiv1.Readiness{State: state, Reason: reason}}, nil
		}
	}
	failing := func() (*apiv1.StatusResponse, error) { return nil, unavailable() }
	p := &peer{
		health: &apiv1.HealthResponse{Reason: "replaying"},
		statuses: []func() (*apiv1.StatusResponse, error){failing, failing, waiting("no_quorum", "b is missing"),
			waiting("no_quorum", "b is missing"), func() (*apiv1.StatusResponse, error) {
				return &apiv1.StatusResponse{Ready: true, Height: 3}, nil
			}},
	}
	var told []string
	s, err := servePeer(t, p).WatchReady(t.Context(), func(r *apiv1.Readiness) {
		told = append(told, client.ReadinessText(r))
	})
	require.NoError(t, err)
	require.EqualValues(t, 3, s.Height)
	require.Equal(t, []string{"starting: replaying", "no_quorum: b is missing"}, told)
	require.Equal(t, "ready", client.ReadinessText(&apiv1.Readiness{State: "ready"}))
}

func TestWaitReadyEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	over := errors.New("over")
	p := &peer{}
	p.statuses = []func() (*apiv1.StatusResponse, error){func() (*apiv1.StatusResponse, error) {
		cancel(over)
		return &apiv1.StatusResponse{Readiness: &apiv1.Readiness{State: "halted"}}, nil
	}}
	_, err := servePeer(t, p).WaitReady(ctx)
	require.ErrorIs(t, err, over)

	p.statuses = []func() (*apiv1.StatusResponse, error){func() (*apiv1.StatusResponse, error) {
		return nil, connect.NewError(connect.CodePermissionDenied, errors.New("wrong token"))
	}}
	_, err = servePeer(t, p).WaitReady(t.Context())
	require.ErrorContains(t, err, "wrong token")
}

func TestTx(t *testing.T) {
	id := chain.HashTx([]byte("tx"))
	p := &peer{txs: []*apiv1.TxOutcome{
		{Id: id[:], Outcome: &apiv1.TxOutcome_Accepted{Accepted: &apiv1.Accepted{}}},
		{Id: id[:], Outcome: &apiv1.TxOutcome_Result{Result: &logv1.TxResult{Id: id[:], Data: []byte("done")}}},
	}}
	c := servePeer(t, p)
	o, err := c.Tx(t.Context(), id, time.Minute)
	require.NoError(t, err)
	require.Equal(t, "done", string(o.Result.Data))

	_, err = c.Tx(t.Context(), id, 0)
	require.ErrorIs(t, err, client.ErrNotFound)
}

func TestConsistentReadsAndWrongAnswers(t *testing.T) {
	c := servePeer(t, &peer{})
	v, found, err := c.GetConsistent(t.Context(), []byte("k"))
	require.NoError(t, err)
	require.True(t, found)
	require.NotNil(t, v, "an empty value is a value")
	_, _, err = c.Get(t.Context(), []byte("k"))
	require.ErrorContains(t, err, "0 values for 1 keys")
}

func TestAdministration(t *testing.T) {
	p := &peer{backup: []*apiv1.BackupResponse{{}, {}}}
	c, ctx := servePeer(t, p), t.Context()
	tree, err := c.Tree(ctx)
	require.NoError(t, err)
	require.Equal(t, "host", tree.Root.Path)
	spec, err := c.Spec(ctx)
	require.NoError(t, err)
	require.Equal(t, "the plan", spec.Text)
	host, err := c.HostStatus(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 42, host.Pid)
	stopped, err := c.Stop(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 42, stopped.Pid)
	_, err = c.Kill(ctx, "a", apiv1.How_HOW_HANG, 3*time.Second)
	require.NoError(t, err)

	s, fresh, err := c.CreateSnapshot(ctx)
	require.NoError(t, err)
	require.True(t, fresh)
	require.Equal(t, "0-1-2", s.Id)
	offered, err := c.OfferSnapshot(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 9, offered.Height)
	list, err := c.Snapshots(ctx)
	require.NoError(t, err)
	require.Len(t, list, 1, "asked again")
	r, err := c.Retention(ctx)
	require.NoError(t, err)
	require.Equal(t, "all", r.Retain)

	parts := 0
	require.NoError(t, c.Backup(ctx, func(*apiv1.BackupResponse) error { parts++; return nil }))
	require.Equal(t, 2, parts)
	full := errors.New("disk full")
	require.Equal(t, full, c.Backup(ctx, func(*apiv1.BackupResponse) error { return full }))

	for _, token := range p.tokens {
		require.Equal(t, "Bearer secret", token)
	}
}

// Without an address there is no call.
func TestAnAddressThatIsNotKnown(t *testing.T) {
	c := client.New("", client.WithResolver(func() (string, error) { return "", errors.New("no node.json") }),
		client.WithBackoff(time.Microsecond, time.Millisecond))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	_, _, err := c.CreateSnapshot(ctx)
	require.ErrorContains(t, err, "no node.json")
	_, err = c.OfferSnapshot(ctx)
	require.ErrorContains(t, err, "no node.json")
	require.ErrorContains(t, c.Backup(ctx, nil), "no node.json")
	_, err = c.Tree(ctx)
	require.ErrorContains(t, err, "no node.json")
	require.ErrorIs(t, c.Events(ctx, client.EventsOptions{}, nil), context.Canceled)
	require.ErrorIs(t, c.Follow(ctx, 0, nil, nil), context.Canceled)
}
