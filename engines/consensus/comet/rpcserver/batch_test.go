package rpcserver

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	rpc "github.com/cometbft/cometbft/rpc/jsonrpc/server"
	rpctypes "github.com/cometbft/cometbft/rpc/jsonrpc/types"
	"github.com/stretchr/testify/require"
)

// echo answers a call with its id and a text of 100 bytes. It takes a share of the budget.
func echo(t *testing.T, l *limits) http.Handler {
	t.Helper()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		var q struct {
			ID json.RawMessage `json:"id"`
		}
		require.NoError(t, json.Unmarshal(body, &q))
		if q.ID == nil {
			return
		}
		if _, err := l.take(&rpctypes.Context{HTTPReq: r}, 60); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, `{"id":%s,"result":%q}`, q.ID, strings.Repeat("x", 100))
	})
}

func ask(h http.Handler, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
	return w
}

func newBounded(t *testing.T, most int64) bounded {
	t.Helper()
	l := &limits{budget: newBudget(100), bodies: newBudget(100), most: most}
	config := &rpc.Config{MaxBodyBytes: 1 << 20, MaxRequestBatchSize: 10, WriteTimeout: time.Second}
	return bounded{l, echo(t, l), config}
}

// The answers of a batch come in order, one share after the other. Above the limit, the remaining
// calls are not made, and get an error each. A notification gets nothing.
func TestABatchIsAnsweredUpToItsLimit(t *testing.T) {
	h := newBounded(t, 200)
	w := ask(h, `[{"id":1},{"method":"notification"},{"id":"two"},{"id":3},{"id":4}]`)
	var answers []map[string]any
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answers), w.Body.String())
	require.Len(t, answers, 4)
	require.Equal(t, "two", answers[1]["id"])
	require.Contains(t, answers[1], "result")
	require.EqualValues(t, 4, answers[3]["id"])
	require.Contains(t, answers[3]["error"].(map[string]any)["data"], "in another request")

	require.Empty(t, ask(h, `[{"method":"notification"}]`).Body.String())
	require.Contains(t, ask(h, `[`+strings.Repeat(`{"id":1},`, 10)+`{"id":1}]`).Body.String(), "exceeds maximum (10)")
	require.JSONEq(t, `{"id":7,"result":"`+strings.Repeat("x", 100)+`"}`, ask(h, `{"id":7}`).Body.String())
}

// A call waits for its share, and is told when it waits in vain. Everything is given back.
func TestACallWaitsForItsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newBounded(t, 200)
		held, err := h.budget.take(t.Context(), 50)
		require.NoError(t, err)
		began := time.Now()
		require.Contains(t, ask(h, `{"id":1}`).Body.String(), ErrBusy.Error())
		require.Equal(t, patience, time.Since(began))

		h.budget.give(held)
		require.Contains(t, ask(h, `{"id":1}`).Body.String(), "result")
		all, err := h.budget.take(t.Context(), 1000)
		require.NoError(t, err)
		require.EqualValues(t, 100, all, "nothing was kept, and more than all is all")
	})
}

// Over a websocket, a share is held until as many bytes have been sent, or the connection ends.
func TestAWebsocketHoldsItsShares(t *testing.T) {
	l := &limits{budget: newBudget(100)}
	here, there := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, there) }()
	m := &metered{Conn: here, limits: l}

	settle, err := m.take(t.Context(), 60)
	require.NoError(t, err)
	settle(10)
	_, err = m.Write(make([]byte, 9))
	require.NoError(t, err)
	require.False(t, l.budget.weights.TryAcquire(100))
	_, err = m.Write(make([]byte, 1))
	require.NoError(t, err)
	require.True(t, l.budget.weights.TryAcquire(100))
	l.budget.give(100)

	for range 2 {
		_, err = m.take(t.Context(), 30)
		require.NoError(t, err)
	}
	require.NoError(t, m.Close())
	require.True(t, l.budget.weights.TryAcquire(100))
	l.budget.give(100)
	_, err = m.take(t.Context(), 10)
	require.ErrorIs(t, err, net.ErrClosed)
	require.True(t, l.budget.weights.TryAcquire(100))
}
