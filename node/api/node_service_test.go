package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/node/api"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// fakeNode is a Core whose transactions end when the test says so. A body "bad" is refused.
type fakeNode struct {
	condition consensus.Condition

	mu      sync.Mutex
	calls   []int // batch size of each Submit
	ended   map[chain.TxID]*logv1.TxResult
	known   map[chain.TxID]bool
	state   map[string]string
	fail    error
	instant bool          // a submission has its result at once
	waiting chan struct{} // receives one value for each Wait that blocks
	more    chan struct{} // closed and replaced when a transaction ended
	records []api.Logged
}

func newFakeNode() *fakeNode {
	return &fakeNode{
		ended: map[chain.TxID]*logv1.TxResult{}, known: map[chain.TxID]bool{}, state: map[string]string{},
		waiting: make(chan struct{}, 100), more: make(chan struct{}),
	}
}

func (f *fakeNode) Submit(_ context.Context, txs [][]byte) ([]chain.Submitted, error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	if f.fail != nil {
		return nil, f.fail
	}

	f.calls = append(f.calls, len(txs))
	out := make([]chain.Submitted, len(txs))

	for i, tx := range txs {
		out[i].ID = chain.HashTx(tx)
		if string(tx) == "bad" {
			out[i].Err = fmt.Errorf("%w: bad is bad", chain.ErrBadBody)
			continue
		}

		f.known[out[i].ID] = true
		if f.instant {
			f.ended[out[i].ID] = &logv1.TxResult{Id: out[i].ID[:], Version: &logv1.Version{Height: 7}}
		}
	}

	return out, nil
}

func (f *fakeNode) end(id chain.TxID, r *logv1.TxResult) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended[id] = r
	close(f.more)
	f.more = make(chan struct{})
}

func (f *fakeNode) Look(_ context.Context, ids []chain.TxID) ([]chain.Ending, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]chain.Ending, len(ids))
	for i, id := range ids {
		out[i] = chain.Ending{ID: id, Known: f.known[id], Result: f.ended[id]}
	}
	return out, f.fail
}

func (f *fakeNode) Wait(ctx context.Context, ids []chain.TxID) ([]chain.Ending, error) {
	for {
		f.mu.Lock()
		more := f.more
		f.mu.Unlock()

		out, err := f.Look(ctx, ids)
		open := 0

		for _, o := range out {
			if o.Known && o.Result == nil {
				open++
			}
		}

		if open == 0 || err != nil {
			return out, err
		}

		f.waiting <- struct{}{}

		select {
		case <-more:
		case <-ctx.Done():
			return out, nil
		}
	}
}

func (f *fakeNode) Get(_ context.Context, keys [][]byte, height uint64, _ int) (api.Read, error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	if height > 7 {
		return api.Read{}, fmt.Errorf("%w: %d, the latest is 7", api.ErrNoHeight, height)
	}

	r := api.Read{Height: 7}

	for _, k := range keys {
		if v, ok := f.state[string(k)]; ok {
			r.Values = append(r.Values, append([]byte{}, v...))
		} else {
			r.Values = append(r.Values, nil)
		}
	}

	return r, f.fail
}

func (f *fakeNode) Follow(_ context.Context, from client.Cursor, kinds []string, send func(api.Logged) error) error {
	for _, r := range f.records {
		if r.Index > from.Index && (len(kinds) == 0 || slices.Contains(kinds, r.Kind)) {
			if err := send(r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *fakeNode) Newest(context.Context) (client.Cursor, error) {
	return client.Cursor{Index: uint64(len(f.records))}, nil
}

func (f *fakeNode) Status(context.Context) (api.Status, error) {
	return api.Status{Chain: chain.State{ChainID: "test", Height: 7, AppHash: []byte{1}}, PoolSize: 3,
		Consensus: "solo", Condition: f.condition}, f.fail
}

func serve(t *testing.T, f *fakeNode, o api.NodeOptions) apiv1connect.NodeServiceClient {
	t.Helper()
	path, h := api.NodeHandler(f, o)
	mux := http.NewServeMux()
	mux.Handle(path, h)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return apiv1connect.NewNodeServiceClient(srv.Client(), srv.URL)
}

func submit(c apiv1connect.NodeServiceClient, wait apiv1.Wait, timeout time.Duration,
	txs ...string) (*apiv1.SubmitResponse, error) {
	req := &apiv1.SubmitRequest{Wait: wait}
	for _, tx := range txs {
		req.Txs = append(req.Txs, []byte(tx))
	}

	if timeout != 0 {
		req.Timeout = durationpb.New(timeout)
	}
	res, err := c.Submit(context.Background(), connect.NewRequest(req))
	if err != nil {
		return nil, err
	}

	return res.Msg, nil
}

func TestSubmitPassesTheBatchThroughWhole(t *testing.T) {
	f := newFakeNode()
	c := serve(t, f, api.NodeOptions{})
	res, err := submit(c, apiv1.Wait_WAIT_ACCEPTED, 0, "a", "bad", "c")
	require.NoError(t, err)
	require.Equal(t, []int{3}, f.calls)
	require.Len(t, res.Outcomes, 3)
	require.NotNil(t, res.Outcomes[0].GetAccepted())
	id := chain.HashTx([]byte("a"))
	require.Equal(t, id[:], res.Outcomes[0].Id)
	require.Equal(t, apiv1.RefusedCode_REFUSED_CODE_BAD_BODY, res.Outcomes[1].GetRefused().GetCode())
	require.Equal(t, "the backend does not understand the body: bad is bad", res.Outcomes[1].GetRefused().GetReason())
	require.NotNil(t, res.Outcomes[2].GetAccepted())
}

func TestSubmitWaitsForResultsAndKeepsTheOrder(t *testing.T) {
	f := newFakeNode()
	c := serve(t, f, api.NodeOptions{})
	done := make(chan *apiv1.SubmitResponse)
	go func() {
		res, err := submit(c, apiv1.Wait_WAIT_RESULT, 0, "a", "bad", "c")
		if err != nil {
			t.Error(err)
		}
		done <- res
	}()

	<-f.waiting
	f.end(chain.HashTx([]byte("c")), &logv1.TxResult{Data: []byte("C")})
	<-f.waiting // c alone is not enough
	f.end(chain.HashTx([]byte("a")), &logv1.TxResult{Data: []byte("A")})
	res := <-done
	require.Equal(t, "A", string(res.Outcomes[0].GetResult().GetData()))
	require.NotNil(t, res.Outcomes[1].GetRefused())
	require.Equal(t, "C", string(res.Outcomes[2].GetResult().GetData()))
}

func TestSubmitWithoutAResultInTimeAnswersAccepted(t *testing.T) {
	c := serve(t, newFakeNode(), api.NodeOptions{})
	res, err := submit(c, apiv1.Wait_WAIT_RESULT, time.Millisecond, "a")
	require.NoError(t, err)
	require.NotNil(t, res.Outcomes[0].GetAccepted())
}

func TestGetTx(t *testing.T) {
	f := newFakeNode()
	c := serve(t, f, api.NodeOptions{})
	_, err := submit(c, apiv1.Wait_WAIT_ACCEPTED, 0, "a")
	require.NoError(t, err)
	id := chain.HashTx([]byte("a"))

	res, err := c.GetTx(context.Background(), connect.NewRequest(&apiv1.GetTxRequest{Id: id[:]}))
	require.NoError(t, err)
	require.NotNil(t, res.Msg.Outcome.GetAccepted())

	f.end(id, &logv1.TxResult{Code: logv1.Code_CODE_FAILED, Log: "no"})
	res, err = c.GetTx(context.Background(),
		connect.NewRequest(&apiv1.GetTxRequest{Id: id[:], Wait: durationpb.New(time.Minute)}))
	require.NoError(t, err)
	require.Equal(t, "no", res.Msg.Outcome.GetResult().GetLog())

	id[0]++
	_, err = c.GetTx(context.Background(), connect.NewRequest(&apiv1.GetTxRequest{Id: id[:]}))
	require.Equal(t, connect.CodeNotFound, connect.CodeOf(err))
}

func TestGetReadsAllKeysAtOneHeight(t *testing.T) {
	f := newFakeNode()
	f.state["a"], f.state["empty"] = "1", ""
	c := serve(t, f, api.NodeOptions{})
	res, err := c.Get(context.Background(),
		connect.NewRequest(&apiv1.GetRequest{Keys: [][]byte{[]byte("a"), []byte("none"), []byte("empty")}}))
	require.NoError(t, err)
	require.EqualValues(t, 7, res.Msg.Height)
	require.Equal(t, []byte("1"), res.Msg.Values[0].Value)
	require.False(t, res.Msg.Values[1].Found)
	require.True(t, res.Msg.Values[2].Found, "an empty value is there")
}

// A consistent get is an ordered read: it orders a transaction first, and reads at the height of
// that transaction's block.
func TestConsistentGetOrdersATransactionFirst(t *testing.T) {
	f := newFakeNode()
	f.instant = true
	c := serve(t, f, api.NodeOptions{})
	res, err := c.Get(context.Background(),
		connect.NewRequest(&apiv1.GetRequest{Keys: [][]byte{[]byte("a")}, Consistent: true}))
	require.NoError(t, err)
	require.EqualValues(t, 7, res.Msg.Height)
	require.Equal(t, []int{1}, f.calls)
}

func TestStatusSaysReady(t *testing.T) {
	f := newFakeNode()
	f.condition.Is(consensus.CatchingUp, "12 blocks behind")
	f.condition.Warn(consensus.ClockBehind, "by an hour")
	f.condition.ClockOffset = -time.Hour
	c := serve(t, f, api.NodeOptions{})
	res, err := c.Status(context.Background(), connect.NewRequest(&apiv1.StatusRequest{}))
	require.NoError(t, err)
	require.False(t, res.Msg.Ready)
	require.Equal(t, "catching_up", res.Msg.Readiness.State)
	require.Equal(t, "12 blocks behind", res.Msg.Readiness.Reason)
	require.Equal(t, "clock_behind", res.Msg.Readiness.Warnings[0].State)
	require.Equal(t, -time.Hour, res.Msg.Readiness.ClockOffset.AsDuration())
	require.Equal(t, "test", res.Msg.ChainId)
	require.EqualValues(t, 3, res.Msg.PoolSize)
	require.Nil(t, res.Msg.BlockTime, "no block, no time")

	f.condition = consensus.Condition{State: consensus.Ready}
	res, err = c.Status(context.Background(), connect.NewRequest(&apiv1.StatusRequest{}))
	require.NoError(t, err)
	require.True(t, res.Msg.Ready)
}

// I10: bad input gets a clear error that names the field and the problem.
func TestBadInputIsNamed(t *testing.T) {
	f := newFakeNode()
	c := serve(t, f, api.NodeOptions{MaxTxs: 2, MaxKeys: 2, MaxBody: 1 << 10, MaxWait: time.Second})
	ctx := context.Background()
	get := func(r *apiv1.GetRequest) error { _, err := c.Get(ctx, connect.NewRequest(r)); return err }
	getTx := func(r *apiv1.GetTxRequest) error { _, err := c.GetTx(ctx, connect.NewRequest(r)); return err }
	send := func(wait apiv1.Wait, timeout time.Duration, txs ...string) error {
		_, err := submit(c, wait, timeout, txs...)
		return err
	}
	key := []byte("k")
	for _, tt := range []struct {
		name string
		err  error
		code connect.Code
		text string
	}{
		{"no transactions", send(0, 0), connect.CodeInvalidArgument, "txs: 0 transactions, want 1 to 2"},
		{"too many transactions", send(0, 0, "a", "b", "c"), connect.CodeInvalidArgument,
			"txs: 3 transactions, want 1 to 2"},
		{"body too large", send(0, 0, strings.Repeat("x", 2<<10)), connect.CodeResourceExhausted, "1024"},
		{"unknown wait", send(9, 0, "a"), connect.CodeInvalidArgument, "wait: 9"},
		{"wait too long", send(2, time.Hour, "a"), connect.CodeInvalidArgument, "timeout: 1h0m0s, want 0 to 1s"},
		{"negative wait", send(2, -1, "a"), connect.CodeInvalidArgument, "timeout: -1ns"},
		{"no keys", get(&apiv1.GetRequest{}), connect.CodeInvalidArgument, "keys: 0 keys, want 1 to 2"},
		{"too many keys", get(&apiv1.GetRequest{Keys: [][]byte{key, key, key}}), connect.CodeInvalidArgument,
			"keys: 3 keys"},
		{"empty key", get(&apiv1.GetRequest{Keys: [][]byte{key, nil}}), connect.CodeInvalidArgument,
			"keys: key 1 has 0 bytes"},
		{"consistent and height", get(&apiv1.GetRequest{Keys: [][]byte{key}, Consistent: true, Height: 3}),
			connect.CodeInvalidArgument, "height: 3, want 0"},
		{"no such height", get(&apiv1.GetRequest{Keys: [][]byte{key}, Height: 8}), connect.CodeOutOfRange,
			"no such height: 8, the latest is 7"},
		{"short id", getTx(&apiv1.GetTxRequest{Id: key}), connect.CodeInvalidArgument,
			"id: transaction id: 1 bytes, want 32"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.code, connect.CodeOf(tt.err), "%v", tt.err)
			require.ErrorContains(t, tt.err, tt.text)
		})
	}

	require.Empty(t, f.calls, "nothing of this reached the node")
}

func TestDownIsUnavailableWithTheReason(t *testing.T) {
	f := newFakeNode()
	c := serve(t, f, api.NodeOptions{})

	for _, down := range []error{
		fmt.Errorf("%w: transactions is restarting", api.ErrUnavailable),
		fmt.Errorf("pool: %w", engines.ErrDown),
		fmt.Errorf("pool: %w", context.Canceled), // of a part of the node: the client did not cancel
	} {
		f.fail = down
		_, err := submit(c, apiv1.Wait_WAIT_ACCEPTED, 0, "a")
		require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err))
		require.ErrorContains(t, err, down.Error())
	}

	f.fail = fmt.Errorf("surprise")
	_, err := submit(c, apiv1.Wait_WAIT_ACCEPTED, 0, "a")
	require.Equal(t, connect.CodeInternal, connect.CodeOf(err))
}

func TestFollow(t *testing.T) {
	f := newFakeNode()
	f.records = []api.Logged{{Index: 1, Kind: "TxLaunched"}, {Index: 2, Kind: "BlockCommitted", Data: []byte{1}},
		{Index: 3, Kind: "TxLaunched"}}
	_, h := api.NodeHandler(f, api.NodeOptions{})
	server := httptest.NewServer(h)
	defer server.Close()

	c := apiv1connect.NewNodeServiceClient(server.Client(), server.URL)
	follow := func(req *apiv1.FollowRequest) (seen []string, err error) {
		stream, err := c.Follow(t.Context(), connect.NewRequest(req))
		require.NoError(t, err)
		defer stream.Close()
		for stream.Receive() {
			seen = append(seen, fmt.Sprintf("%d %s", stream.Msg().Index, stream.Msg().Kind))
		}
		return seen, stream.Err()
	}
	seen, err := follow(&apiv1.FollowRequest{After: 1})
	require.NoError(t, err)
	require.Equal(t, []string{"2 BlockCommitted", "3 TxLaunched"}, seen)
	seen, err = follow(&apiv1.FollowRequest{Kinds: []string{"BlockCommitted"}})
	require.NoError(t, err)
	require.Equal(t, []string{"2 BlockCommitted"}, seen)
	seen, err = follow(&apiv1.FollowRequest{FromNow: true})
	require.NoError(t, err)
	require.Equal(t, []string{"3 "}, seen, "the cursor comes first, for who is cut off before the first record")
	_, err = follow(&apiv1.FollowRequest{Kinds: []string{"Nonsense"}})
	require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err))
	require.ErrorContains(t, err, `unknown kind of record "Nonsense"`)
}

// oneSink is a sink of a node. It has blocks up to a height.
type oneSink struct {
	name   string
	height uint64
}

func (s *oneSink) Standing(name string) (st streams.Standing, err error) {
	if name != s.name {
		return st, streams.ErrNoSlot
	}
	st.State, st.At.Height = streams.Retrying, s.height
	return st, nil
}

func (s *oneSink) Wait(ctx context.Context, _ string, at streams.Position) error {
	if at.Height <= s.height {
		return nil
	}
	<-ctx.Done()
	return fmt.Errorf("%w: %w", streams.ErrBehind, context.Cause(ctx))
}

// Item 43: WAIT_SINK waits for the sinks, and names those that lack a block after the timeout.
func TestSubmitWaitsForSinks(t *testing.T) {
	f := newFakeNode()
	f.instant = true
	sink := &oneSink{name: "ledger", height: 7}
	mux := http.NewServeMux()
	mux.Handle(api.NodeHandler(f, api.NodeOptions{Sinks: sink}))
	srv := httptest.NewServer(mux)
	defer srv.Close()
	h := &http.Client{Transport: &http.Transport{}}
	defer h.CloseIdleConnections()
	c := apiv1connect.NewNodeServiceClient(h, srv.URL)
	submit := func(req *apiv1.SubmitRequest) (*apiv1.SubmitResponse, error) {
		req.Txs = [][]byte{[]byte("tx")}
		res, err := c.Submit(t.Context(), connect.NewRequest(req))
		if err != nil {
			return nil, err
		}
		return res.Msg, nil
	}

	res, err := submit(&apiv1.SubmitRequest{Wait: apiv1.Wait_WAIT_SINK, Sinks: []string{"ledger"}})
	require.NoError(t, err)
	require.Empty(t, res.Lacking)
	require.EqualValues(t, 7, res.Outcomes[0].GetResult().GetVersion().GetHeight())

	sink.height = 6
	res, err = submit(&apiv1.SubmitRequest{Wait: apiv1.Wait_WAIT_SINK, Sinks: []string{"ledger"},
		Timeout: durationpb.New(time.Millisecond)})
	require.NoError(t, err)
	require.NotNil(t, res.Outcomes[0].GetResult())
	require.Len(t, res.Lacking, 1)
	require.Equal(t, "ledger", res.Lacking[0].Name)
	require.Equal(t, "retrying", res.Lacking[0].State)
	require.EqualValues(t, 6, res.Lacking[0].Height)

	calls := len(f.calls)
	for _, req := range []*apiv1.SubmitRequest{
		{Wait: apiv1.Wait_WAIT_SINK}, {Wait: apiv1.Wait_WAIT_SINK, Sinks: []string{"nosuch"}},
		{Wait: apiv1.Wait_WAIT_RESULT, Sinks: []string{"ledger"}},
	} {
		_, err := submit(req)
		require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err))
	}
	require.Len(t, f.calls, calls, "nothing is submitted")
}
