package rpcserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	rpc "github.com/cometbft/cometbft/rpc/jsonrpc/server"
	rpctypes "github.com/cometbft/cometbft/rpc/jsonrpc/types"
)

// bounded serves requests of strangers: it answers the calls of a batch one after the other, and
// gives each call a share of the budget for as long as its answer is in memory. next answers a
// single call.
type bounded struct {
	*limits
	next   http.Handler
	config *rpc.Config
}

// smallBody is the size up to which a request needs no share of the budget before it is read.
const smallBody = 64 << 10

// ServeHTTP answers a request.
func (h bounded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == websocketPath {
		h.websocket(w, r)
		return
	}

	calls, body, done, err := h.callsOf(w, r)
	if err != nil {
		status := http.StatusBadRequest
		if errors.Is(err, ErrBusy) {
			status = http.StatusServiceUnavailable
		}
		http.Error(w, err.Error(), status)
		return
	}
	defer done()

	if most := h.config.MaxRequestBatchSize; most > 0 && len(calls) > most {
		_ = rpc.WriteRPCResponseHTTP(w, rpctypes.RPCInvalidRequestError(nil,
			fmt.Errorf("batch request exceeds maximum (%d) allowed number of requests", most)))
		return
	}

	if calls != nil {
		h.batch(w, r, calls)
		return
	}

	r.Body = io.NopCloser(bytes.NewReader(body))
	a := h.answer(r)
	defer a.share.release()

	for k, v := range a.header {
		w.Header()[k] = v
	}
	if a.status != 0 {
		w.WriteHeader(a.status)
	}
	_, _ = w.Write(a.body.Bytes())
}

// callsOf returns the calls of a batch, or nil and the body if the request is not a batch. A large
// body holds a share of the budget until done is called.
func (h bounded) callsOf(w http.ResponseWriter, r *http.Request) (calls []json.RawMessage, body []byte, done func(),
	err error) {
	done = func() {}
	if r.Body == nil {
		return nil, nil, done, nil
	}

	if n := r.ContentLength; n < 0 || n > smallBody {
		if n < 0 || n > h.config.MaxBodyBytes {
			n = h.config.MaxBodyBytes
		}
		taken, err := h.bodies.take(r.Context(), perByteOfBody*n)
		if err != nil {
			return nil, nil, done, err
		}
		done = func() { h.bodies.give(taken) }
	}

	body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, h.config.MaxBodyBytes))
	if err != nil {
		done()
		return nil, nil, nil, err
	}
	if first := bytes.TrimSpace(body); r.Method != http.MethodPost || len(first) == 0 || first[0] != '[' {
		return nil, body, done, nil
	}
	if json.Unmarshal(body, &calls) != nil || len(calls) == 0 {
		return nil, body, done, nil // CometBFT says what is wrong
	}

	return calls, nil, done, nil
}

// batch writes the answers to the calls as one array. When their bytes exceed the limit, the rest
// of the calls are not made, and get an error each.
func (h bounded) batch(w http.ResponseWriter, r *http.Request, calls []json.RawMessage) {
	w.Header().Set("Content-Type", "application/json")
	sent := int64(0)
	timeout := http.NewResponseController(w)

	for i, call := range calls {
		var body []byte
		release := func() {}

		if sent < h.most {
			one := r.Clone(r.Context())
			one.Body, one.ContentLength = io.NopCloser(bytes.NewReader(call)), int64(len(call))
			a := h.answer(one)
			body, release = bytes.TrimSpace(a.body.Bytes()), a.share.release
		} else {
			body = h.tooMuch(call, i)
		}

		if len(body) > 0 { // a notification has no answer
			opening := []byte{','}
			if sent == 0 {
				opening = []byte{'['}
			}
			_ = timeout.SetWriteDeadline(time.Now().Add(h.config.WriteTimeout)) // of each answer, not of all
			_, _ = w.Write(opening)
			_, _ = w.Write(body)
			sent += int64(len(body)) + 1
		}

		release()

		if r.Context().Err() != nil {
			return
		}
	}

	if sent > 0 {
		_, _ = w.Write([]byte{']'})
	}
}

// tooMuch returns the answer to a call that is not made, or nothing for a notification.
func (h bounded) tooMuch(call json.RawMessage, i int) []byte {
	var q struct {
		ID json.RawMessage `json:"id"`
	}
	if json.Unmarshal(call, &q) != nil || len(q.ID) == 0 {
		return nil
	}

	type rpcError struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Data    string `json:"data"`
	}
	out, err := json.Marshal(struct {
		Version string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Error   rpcError        `json:"error"`
	}{"2.0", q.ID, rpcError{-32603, "Answer too large", fmt.Sprintf("the answers to the first %d calls of this batch "+
		"have more than %d bytes: make the rest of the calls in another request", i, h.most)}})
	if err != nil {
		return nil
	}

	return out
}

// answered is the answer to one call, and what the call holds of the budget.
type answered struct {
	status int
	header http.Header
	body   bytes.Buffer
	share  *share
}

// answer makes the answer to one call.
func (h bounded) answer(r *http.Request) *answered {
	a := &answered{header: make(http.Header), share: &share{budget: h.budget}}
	h.next.ServeHTTP(a, r.WithContext(a.share.with(r.Context())))
	return a
}

// Header implements http.ResponseWriter.
func (a *answered) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answered) WriteHeader(status int) { a.status = status }

// Write implements http.ResponseWriter.
func (a *answered) Write(b []byte) (int, error) { return a.body.Write(b) }
