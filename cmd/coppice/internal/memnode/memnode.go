// Package memnode is a node in memory, for tests of programs that watch a node. It serves the real
// handlers of the API, and executes kv transactions as soon as they are submitted. On request it
// breaks its promises, so that a test can check that a program notices.
package memnode

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/backend/backendtest"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/node/api"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Node is an api.Core.
type Node struct {
	// Betray returns how often the node applies the n-th transaction, counted from 1: 0 loses it,
	// and 2 applies it twice. The client gets the answer of an honest node. A nil Betray applies
	// each once.
	Betray func(n int) int

	// Down returns the error with which the n-th call of Submit, counted from 1, fails. If it
	// returns nil, the call is served.
	Down func(n int) error

	// Held is the body of a transaction that was accepted but not applied yet. It is applied before
	// the next transaction that is submitted.
	Held []byte

	mu      sync.Mutex
	state   backendtest.State
	results map[chain.TxID]*logv1.TxResult
	calls   int
}

// New returns an empty node.
func New() *Node { return &Node{results: make(map[chain.TxID]*logv1.TxResult)} }

// Serve serves n until the test ends, and returns a client of it.
func (n *Node) Serve(t testing.TB) *client.Client {
	mux := http.NewServeMux()
	mux.Handle(api.NodeHandler(n, api.NodeOptions{}))
	srv := httptest.NewServer(mux)
	c := client.New(srv.URL, client.WithBackoff(time.Microsecond, time.Millisecond))
	t.Cleanup(func() {
		c.CloseIdle()
		srv.Close()
	})

	return c
}

// Txs returns how many transactions were accepted.
func (n *Node) Txs() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.results)
}

// Submit executes each transaction that was not submitted before.
func (n *Node) Submit(_ context.Context, txs [][]byte) ([]chain.Submitted, error) {
	n.mu.Lock()
	defer n.mu.Unlock()

	n.calls++

	if n.Down != nil {
		if err := n.Down(n.calls); err != nil {
			return nil, err
		}
	}

	if n.Held != nil {
		if _, err := n.state.Execute(kv.New(), n.Held); err != nil {
			return nil, err
		}
		n.Held = nil
	}

	out := make([]chain.Submitted, len(txs))

	for i, encoded := range txs {
		id := chain.HashTx(encoded)
		out[i].ID = id
		if n.results[id] != nil {
			continue
		}

		tx, err := chain.DecodeTx(encoded)
		if err != nil {
			out[i].Err = err
			continue
		}

		n.results[id] = n.execute(id, tx)
	}

	return out, nil
}

func (n *Node) execute(id chain.TxID, tx chain.Tx) *logv1.TxResult {
	r := &logv1.TxResult{Id: id[:], Version: &logv1.Version{Height: uint64(len(n.results) + 1)}}
	times := 1
	if n.Betray != nil {
		times = n.Betray(len(n.results) + 1)
	}

	before := n.state.Keys // Execute does not modify the map

	for range max(times, 1) {
		data, err := n.state.Execute(kv.New(), tx.Body)
		if r.Data = data; err != nil {
			r.Code, r.Log = logv1.Code_CODE_FAILED, err.Error()
		}
	}

	if times == 0 {
		n.state.Keys = before // the result does not show it
	}

	return r
}

// Look returns the results of the transactions that were submitted.
func (n *Node) Look(_ context.Context, ids []chain.TxID) ([]chain.Ending, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]chain.Ending, len(ids))
	for i, id := range ids {
		out[i] = chain.Ending{ID: id, Known: n.results[id] != nil, Result: n.results[id]}
	}
	return out, nil
}

// Wait is Look: here every transaction ends at once.
func (n *Node) Wait(ctx context.Context, ids []chain.TxID) ([]chain.Ending, error) {
	return n.Look(ctx, ids)
}

// Get reads the state. There is no history, so every height has the same state.
func (n *Node) Get(_ context.Context, keys [][]byte, height uint64, _ int) (api.Read, error) {
	n.mu.Lock()
	defer n.mu.Unlock()

	r := api.Read{Height: height}

	for _, k := range keys {
		v, ok := n.state.Keys[string(k)]
		if !ok {
			r.Values = append(r.Values, nil)
			continue
		}
		r.Values = append(r.Values, append([]byte{}, v...))
	}

	return r, nil
}

// Follow streams nothing until ctx ends, because the node has no log.
func (n *Node) Follow(ctx context.Context, _ client.Cursor, _ []string, _ func(api.Logged) error) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// Newest returns 0, because the node has no log.
func (n *Node) Newest(context.Context) (client.Cursor, error) { return client.Cursor{}, nil }

// Status returns the status of a node that is always ready.
func (n *Node) Status(context.Context) (api.Status, error) {
	return api.Status{Chain: chain.State{ChainID: "memory", Height: uint64(n.Txs())}}, nil
}
