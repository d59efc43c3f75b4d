package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/chain"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a NodeService that counts effects by id. The test scripts its answers: each call takes
// the next step, which runs after the effects; the last step stays.
type node struct {
	apiv1connect.UnimplementedNodeServiceHandler
	apiv1connect.UnimplementedAdminServiceHandler

	mu      sync.Mutex
	steps   []func(*apiv1.SubmitResponse) error
	calls   [][]string     // the transactions of each Submit
	applied map[string]int // by canonical bytes
	seen    map[string]bool
	auth    string

	noResults bool // a request that waits for a result receives none
}

func ok(*apiv1.SubmitResponse) error { return nil }

func down(*apiv1.SubmitResponse) error {
	return connect.NewError(connect.CodeUnavailable, errors.New("transactions is restarting"))
}

var errHangUp = errors.New("hang up")

func hangUp(*apiv1.SubmitResponse) error { return errHangUp }

func result(r *apiv1.SubmitResponse) error {
	for _, o := range r.Outcomes {
		o.Outcome = &apiv1.TxOutcome_Result{Result: &logv1.TxResult{Id: o.Id, Data: []byte("done")}}
	}
	return nil
}

func refuse(code apiv1.RefusedCode) func(*apiv1.SubmitResponse) error {
	return func(r *apiv1.SubmitResponse) error {
		r.Outcomes[0].Outcome = &apiv1.TxOutcome_Refused{Refused: &apiv1.Refused{Code: code, Reason: "because"}}
		return nil
	}
}

func (n *node) Submit(ctx context.Context,
	req *connect.Request[apiv1.SubmitRequest]) (*connect.Response[apiv1.SubmitResponse], error) {
	n.mu.Lock()
	res := &apiv1.SubmitResponse{}
	var call []string

	for _, tx := range req.Msg.Txs {
		id := chain.HashTx(tx)
		call = append(call, string(tx))
		if !n.seen[string(tx)] { // one id, one effect
			n.seen[string(tx)] = true
			n.applied[string(tx)]++
		}
		res.Outcomes = append(res.Outcomes,
			&apiv1.TxOutcome{Id: id[:], Outcome: &apiv1.TxOutcome_Accepted{Accepted: &apiv1.Accepted{}}})
	}

	n.calls = append(n.calls, call)
	step := n.steps[0]
	if len(n.steps) > 1 {
		n.steps = n.steps[1:]
	}

	n.mu.Unlock()

	if n.noResults && req.Msg.Wait == apiv1.Wait_WAIT_RESULT {
		in := time.NewTimer(req.Msg.Timeout.AsDuration())
		defer in.Stop()
		select {
		case <-in.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}

	if err := step(res); err != nil {
		if err == errHang {
			<-ctx.Done()
			err = ctx.Err()
		}
		return nil, err
	}

	return connect.NewResponse(res), nil
}

var errHang = errors.New("hang")

func hang(*apiv1.SubmitResponse) error { return errHang }

func (n *node) Kill(_ context.Context, req *connect.Request[apiv1.KillRequest]) (*connect.Response[apiv1.KillResponse],
	error) {
	n.auth = req.Header().Get("Authorization")
	return connect.NewResponse(&apiv1.KillResponse{Path: req.Msg.Path, How: req.Msg.How, Incarnation: 3}), nil
}

func (n *node) Get(_ context.Context, req *connect.Request[apiv1.GetRequest]) (*connect.Response[apiv1.GetResponse],
	error) {
	res := &apiv1.GetResponse{Height: 5}
	for _, k := range req.Msg.Keys {
		res.Values = append(res.Values, &apiv1.Value{Found: string(k) != "none", Value: k})
	}
	return connect.NewResponse(res), nil
}

func start(t *testing.T, steps ...func(*apiv1.SubmitResponse) error) (*node, string) {
	t.Helper()
	n := &node{steps: steps, applied: map[string]int{}, seen: map[string]bool{}}
	mux := http.NewServeMux()
	mux.Handle(apiv1connect.NewNodeServiceHandler(n))
	mux.Handle(apiv1connect.NewAdminServiceHandler(n))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &recorder{ResponseWriter: w}
		mux.ServeHTTP(rec, r)
		if rec.hungUp() {
			panic(http.ErrAbortHandler) // the connection breaks without an answer
		}
		rec.flush()
	}))
	t.Cleanup(srv.Close)

	return n, srv.URL
}

// recorder keeps the answer until it is decided whether the connection breaks instead.
type recorder struct {
	http.ResponseWriter
	code int
	body []byte
}

func (r *recorder) WriteHeader(code int) { r.code = code }
func (r *recorder) Write(b []byte) (int, error) {
	r.body = append(r.body, b...)
	return len(b), nil
}
func (r *recorder) hungUp() bool {
	return r.code >= 400 && string(r.body) == `{"code":"unknown","message":"hang up"}`
}
func (r *recorder) flush() {
	if r.code != 0 {
		r.ResponseWriter.WriteHeader(r.code)
	}
	r.ResponseWriter.Write(r.body)
}

func dial(t *testing.T, url string, opts ...client.Option) *client.Client {
	t.Helper()
	c := client.New(url, append([]client.Option{client.WithBackoff(time.Microsecond, time.Millisecond)}, opts...)...)
	t.Cleanup(c.CloseIdle)
	return c
}

var tx = chain.Tx{Backend: "kv", Nonce: []byte("n"), Body: []byte("body")}

// I2: however often the node or the connection is lost, one id has one effect.
func TestSubmitTriesAgainWithTheSameID(t *testing.T) {
	n, url := start(t, down, hangUp, down, ok)
	id, err := dial(t, url).Submit(context.Background(), tx)
	require.NoError(t, err)
	encoded, err := tx.Encode()
	require.NoError(t, err)
	require.Equal(t, chain.HashTx(encoded), id)
	require.Len(t, n.calls, 4)
	require.Equal(t, map[string]int{string(encoded): 1}, n.applied)
}

func TestAHangingNodeIsAskedAgain(t *testing.T) {
	n, url := start(t, hang, result)
	r, err := dial(t, url, client.WithAttemptTimeout(50*time.Millisecond)).SubmitWait(context.Background(), tx)
	require.NoError(t, err)
	require.Equal(t, "done", string(r.Data))
	require.Len(t, n.calls, 2)
}

func TestSubmitWaitAsksUntilThereIsAResult(t *testing.T) {
	n, url := start(t, ok, ok, down, result)
	r, err := dial(t, url).SubmitWait(context.Background(), tx)
	require.NoError(t, err)
	require.Equal(t, "done", string(r.Data))
	require.Len(t, n.calls, 4)
}

func TestRefusalIsAnErrorThatSaysWhy(t *testing.T) {
	n, url := start(t, refuse(apiv1.RefusedCode_REFUSED_CODE_BAD_BODY))
	_, err := dial(t, url).Submit(context.Background(), tx)
	var refused *client.RefusedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, apiv1.RefusedCode_REFUSED_CODE_BAD_BODY, refused.Code)
	require.ErrorContains(t, err, "because")
	require.NotErrorIs(t, err, client.ErrUnknown)
	require.Len(t, n.calls, 1)
}

func TestAFullPoolIsTriedAgain(t *testing.T) {
	n, url := start(t, refuse(apiv1.RefusedCode_REFUSED_CODE_POOL_FULL), ok)
	_, err := dial(t, url).Submit(context.Background(), tx)
	require.NoError(t, err)
	require.Len(t, n.calls, 2)
}

// Ids are kept until valid_until. So a refusal as expired says nothing about an earlier attempt
// whose answer was lost.
func TestExpiredAfterALostAttemptIsUnknown(t *testing.T) {
	_, url := start(t, hangUp, refuse(apiv1.RefusedCode_REFUSED_CODE_EXPIRED))
	_, err := dial(t, url).Submit(context.Background(), tx)
	require.ErrorIs(t, err, client.ErrUnknown)

	_, url = start(t, refuse(apiv1.RefusedCode_REFUSED_CODE_EXPIRED))
	_, err = dial(t, url).Submit(context.Background(), tx)
	require.NotErrorIs(t, err, client.ErrUnknown)
}

func TestWhenTheContextEnds(t *testing.T) {
	boom := errors.New("enough")
	t.Run("after a lost attempt it is unknown", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(context.Background())
		_, url := start(t, down, func(*apiv1.SubmitResponse) error { cancel(boom); return errHang })
		_, err := dial(t, url).Submit(ctx, tx)
		require.ErrorIs(t, err, client.ErrUnknown)
	})

	t.Run("when nobody ever listened it is not", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		require.NoError(t, l.Close())
		tries := 0
		ctx, cancel := context.WithCancelCause(context.Background())
		c := dial(t, "", client.WithResolver(func() (string, error) {
			if tries++; tries == 3 {
				cancel(boom)
			}
			return l.Addr().String(), nil
		}))
		_, err = c.Submit(ctx, tx)
		require.Error(t, err)
	})

	t.Run("after it was accepted only the result is missing", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(context.Background())
		_, url := start(t, ok, func(*apiv1.SubmitResponse) error { cancel(boom); return errHang })
		_, err := dial(t, url).SubmitWait(ctx, tx)
		require.Error(t, err)
		require.ErrorIs(t, err, client.ErrPending)
		require.ErrorIs(t, err, boom)
		require.NotErrorIs(t, err, client.ErrUnknown)
	})

	t.Run("a node that waits for a result answers before that", func(t *testing.T) {
		n, url := start(t, ok)
		n.noResults = true
		ctx, cancel := context.WithTimeoutCause(context.Background(), 2*time.Second, boom) // less than an attempt takes
		defer cancel()
		_, err := dial(t, url).SubmitWait(ctx, tx)
		require.ErrorIs(t, err, client.ErrPending)
		require.ErrorIs(t, err, boom)
	})
}

func TestSubmitManyRepeatsOnlyWhatIsOpen(t *testing.T) {
	first := true
	n, url := start(t, func(r *apiv1.SubmitResponse) error {
		result(r)
		if first {
			r.Outcomes[1].Outcome = &apiv1.TxOutcome_Accepted{Accepted: &apiv1.Accepted{}}
		}
		first = false
		return nil
	})
	outs, err := dial(t, url).SubmitMany(context.Background(), [][]byte{[]byte("a"), []byte("b"), []byte("c")}, true)
	require.NoError(t, err)
	require.Equal(t, [][]string{{"a", "b", "c"}, {"b"}}, n.calls)

	for i, body := range []string{"a", "b", "c"} {
		require.Equal(t, chain.HashTx([]byte(body)), outs[i].ID)
		require.NotNil(t, outs[i].Result)
		require.NoError(t, outs[i].Err)
	}
}

func TestSubmitManyMakesRequestsOfABoundedSize(t *testing.T) {
	n, url := start(t, ok)
	txs := make([][]byte, 10_001)
	for i := range txs {
		txs[i] = fmt.Append(nil, i)
	}

	_, err := dial(t, url).SubmitMany(context.Background(), txs, false)
	require.NoError(t, err)
	require.Len(t, n.calls, 2)
	require.Len(t, n.calls[0], 10_000)
}

func TestTheAddressIsResolvedAgain(t *testing.T) {
	_, url := start(t, ok)
	addresses := []string{"", "127.0.0.1:1", url}
	c := dial(t, "", client.WithResolver(func() (string, error) {
		a := addresses[0]
		if len(addresses) > 1 {
			addresses = addresses[1:]
		}
		if a == "" {
			return "", errors.New("no node.json")
		}
		return a, nil
	}))
	_, err := c.Submit(context.Background(), tx)
	require.NoError(t, err)
}

func TestReads(t *testing.T) {
	_, url := start(t, ok)
	c := dial(t, url)
	v, found, err := c.Get(context.Background(), []byte("k"))
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, "k", string(v))
	_, found, err = c.GetAt(context.Background(), []byte("none"), 3)
	require.NoError(t, err)
	require.False(t, found)
	r, err := c.GetMany(context.Background(), [][]byte{[]byte("a"), []byte("none")})
	require.NoError(t, err)
	require.EqualValues(t, 5, r.Height)
	require.Nil(t, r.Values[1])
}

func TestKillSendsTheToken(t *testing.T) {
	n, url := start(t, ok)
	res, err := dial(t, url, client.WithToken("secret")).Kill(context.Background(), "coppice/node",
		apiv1.How_HOW_STOP, 0)
	require.NoError(t, err)
	require.EqualValues(t, 3, res.Incarnation)
	require.Equal(t, "Bearer secret", n.auth)
}
