package client_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/backend/backendtest"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// A transaction is a body that a backend understands, in an envelope with its own nonce. The kv
// backend's body is a list of operations that take effect together or not at all.
func ExampleClient_SubmitWait() {
	address, stop := startNode()
	defer stop()

	c := client.New(address)
	defer c.CloseIdle()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	body, err := kv.Encode(kv.Put([]byte("greeting"), []byte("hello")), kv.Add([]byte("visits"), 1))
	if err != nil {
		log.Fatal(err)
	}
	res, err := c.SubmitWait(ctx, chain.NewTx(kv.Name, body, time.Minute))
	if err != nil {
		log.Fatal(err) // refused, expired, or unknown: see errors.Is(err, client.ErrUnknown)
	}

	fmt.Println(res.Code)

	greeting, found, err := c.Get(ctx, []byte("greeting"))
	if err != nil {
		log.Fatal(err)
	}

	fmt.Printf("%s %v\n", greeting, found)
	// Output:
	// CODE_OK
	// hello true
}

// Many transactions fit into one request, and each has its own outcome.
func ExampleClient_SubmitMany() {
	address, stop := startNode()
	defer stop()

	c := client.New(address)
	defer c.CloseIdle()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	var txs [][]byte

	for _, op := range []kv.Op{kv.Put([]byte("a"), []byte("1")), kv.Require([]byte("a"), []byte("2"))} {
		body, err := kv.Encode(op)
		if err != nil {
			log.Fatal(err)
		}
		tx, err := chain.NewTx(kv.Name, body, time.Minute).Encode()
		if err != nil {
			log.Fatal(err)
		}

		txs = append(txs, tx)
	}

	outs, err := c.SubmitMany(ctx, txs, true)
	if err != nil {
		log.Fatal(err)
	}

	for _, o := range outs {
		fmt.Println(o.Result.Code)
	}
	// Output:
	// CODE_OK
	// CODE_FAILED
}

// startNode serves a node in memory that knows the kv backend.
func startNode() (address string, stop func()) {
	n := &memoryNode{results: make(map[chain.TxID]*logv1.TxResult)}
	mux := http.NewServeMux()
	mux.Handle(apiv1connect.NewNodeServiceHandler(n))
	srv := httptest.NewServer(mux)
	return srv.URL, srv.Close
}

type memoryNode struct {
	apiv1connect.UnimplementedNodeServiceHandler

	mu      sync.Mutex
	state   backendtest.State
	results map[chain.TxID]*logv1.TxResult
}

func (n *memoryNode) Submit(_ context.Context,
	req *connect.Request[apiv1.SubmitRequest]) (*connect.Response[apiv1.SubmitResponse], error) {
	n.mu.Lock()
	defer n.mu.Unlock()

	res := &apiv1.SubmitResponse{}

	for _, encoded := range req.Msg.Txs {
		id := chain.HashTx(encoded)
		if n.results[id] == nil {
			tx, err := chain.DecodeTx(encoded)
			if err != nil {
				return nil, connect.NewError(connect.CodeInvalidArgument, err)
			}
			r := &logv1.TxResult{Id: id[:]}
			if r.Data, err = n.state.Execute(kv.New(), tx.Body); err != nil {
				r.Code, r.Log = logv1.Code_CODE_FAILED, err.Error()
			}

			n.results[id] = r
		}

		res.Outcomes = append(res.Outcomes,
			&apiv1.TxOutcome{Id: id[:], Outcome: &apiv1.TxOutcome_Result{Result: n.results[id]}})
	}

	return connect.NewResponse(res), nil
}

func (n *memoryNode) Get(_ context.Context,
	req *connect.Request[apiv1.GetRequest]) (*connect.Response[apiv1.GetResponse], error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	res := &apiv1.GetResponse{}
	for _, k := range req.Msg.Keys {
		v, found := n.state.Keys[string(k)]
		res.Values = append(res.Values, &apiv1.Value{Found: found, Value: []byte(v)})
	}
	return connect.NewResponse(res), nil
}
