package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/streams"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
)

// NodeOptions are the limits of NodeService. A zero field means its default.
type NodeOptions struct {
	MaxBody int           // bytes of a request, after decompression; 80 MiB, which fits the longest transaction
	MaxTxs  int           // transactions of a Submit; 10,000
	MaxKeys int           // keys of a Get; 10,000
	MaxRead int           // bytes of the values that one Get returns; 32 MiB
	MaxWait time.Duration // for results; one minute

	// Meter receives the calls that have ended.
	Meter Meter

	// Sinks are the streams that WAIT_SINK waits for; nil: there are none.
	Sinks Sinks

	// Barrier returns a new transaction that changes nothing. A consistent Get submits it, and
	// reads the state after it. By default, Barrier makes a read transaction of the kv backend.
	Barrier func() (chain.Tx, error)
}

// Sinks are the streams of a node. *streams.Streams implements it.
type Sinks interface {
	// Wait waits until a slot has a block, or its filter leaves nothing of it.
	Wait(ctx context.Context, name string, at streams.Position) error
	Standing(name string) (streams.Standing, error)
}

func (o NodeOptions) withDefaults() NodeOptions {
	if o.MaxBody == 0 {
		o.MaxBody = chain.MaxTxBytes + 16<<20
	}
	if o.MaxTxs == 0 {
		o.MaxTxs = 10_000
	}
	if o.MaxKeys == 0 {
		o.MaxKeys = 10_000
	}
	if o.MaxRead == 0 {
		o.MaxRead = 32 << 20
	}
	if o.MaxWait == 0 {
		o.MaxWait = time.Minute
	}

	if o.Barrier == nil {
		o.Barrier = func() (chain.Tx, error) {
			body, err := kv.Encode(kv.Read([]byte("consistent read")))
			return chain.NewTx(kv.Name, body, 2*o.MaxWait), err
		}
	}

	return o
}

// NodeHandler returns the handler of NodeService over b, and the path prefix to mount it at.
func NodeHandler(b Core, o NodeOptions) (string, http.Handler) {
	o = o.withDefaults()
	return apiv1connect.NewNodeServiceHandler(&nodeService{b, o}, knownEnums(), connect.WithReadMaxBytes(o.MaxBody),
		WithMeter(o.Meter))
}

type nodeService struct {
	core   Core
	limits NodeOptions
}

func (s *nodeService) Submit(ctx context.Context,
	req *connect.Request[apiv1.SubmitRequest]) (*connect.Response[apiv1.SubmitResponse], error) {
	txs := req.Msg.Txs
	if n := len(txs); n == 0 || n > s.limits.MaxTxs {
		return nil, invalid("txs", "%d transactions, want 1 to %d", n, s.limits.MaxTxs)
	}
	wait := req.Msg.Wait
	if _, known := apiv1.Wait_name[int32(wait)]; !known {
		return nil, invalid("wait", "%d is none of WAIT_ACCEPTED, WAIT_RESULT and WAIT_SINK", wait)
	}
	if err := s.checkSinks(wait, req.Msg.Sinks); err != nil {
		return nil, err
	}
	timeout, err := s.duration("timeout", req.Msg.Timeout, s.limits.MaxWait)
	if err != nil {
		return nil, err
	}

	begun := time.Now()
	submitted, err := s.submit(ctx, txs)
	if err != nil {
		return nil, err
	}

	outcomes := make([]*apiv1.TxOutcome, len(txs))
	accepted := make([]chain.TxID, 0, len(txs))

	for i, t := range submitted {
		outcomes[i] = submittedOutcome(t)
		if t.Err == nil {
			accepted = append(accepted, t.ID)
		}
	}

	if wait >= apiv1.Wait_WAIT_RESULT && len(accepted) > 0 {
		ended, err := s.wait(ctx, accepted, timeout)
		if err != nil {
			return nil, err
		}

		for i, next := 0, 0; i < len(outcomes); i++ {
			if submitted[i].Err == nil {
				outcomes[i] = knownOutcome(ended[next])
				next++
			}
		}
	}

	res := &apiv1.SubmitResponse{Outcomes: outcomes}
	if wait == apiv1.Wait_WAIT_SINK {
		res.Lacking, err = s.waitSinks(ctx, req.Msg.Sinks, outcomes, timeout-time.Since(begun))
	}
	return connect.NewResponse(res), err
}

func (s *nodeService) submit(ctx context.Context, txs [][]byte) ([]chain.Submitted, error) {
	submitted, err := s.core.Submit(ctx, txs)
	handed(ctx) // the pool limits what it holds
	if err != nil {
		return nil, wireError(ctx, err)
	}

	if len(submitted) != len(txs) {
		return nil, connect.NewError(connect.CodeInternal,
			fmt.Errorf("%d answers to %d submissions", len(submitted), len(txs)))
	}

	return submitted, nil
}

func (s *nodeService) GetTx(ctx context.Context,
	req *connect.Request[apiv1.GetTxRequest]) (*connect.Response[apiv1.GetTxResponse], error) {
	id, err := chain.TxIDFromBytes(req.Msg.Id)
	if err != nil {
		return nil, invalid("id", "%w", err)
	}
	wait, err := s.duration("wait", req.Msg.Wait, 0)
	if err != nil {
		return nil, err
	}
	found, err := s.wait(ctx, []chain.TxID{id}, wait)
	if err != nil {
		return nil, err
	}

	if !found[0].Known {
		return nil, connect.NewError(connect.CodeNotFound,
			fmt.Errorf("transaction %s is not known here: never accepted, or forgotten after its valid_until", id))
	}

	return connect.NewResponse(&apiv1.GetTxResponse{Outcome: knownOutcome(found[0])}), nil
}

// wait waits for at most timeout until each transaction has ended, and returns what is known about
// each then. If the timeout is 0, it does not wait.
func (s *nodeService) wait(ctx context.Context, ids []chain.TxID, timeout time.Duration) ([]chain.Ending, error) {
	var out []chain.Ending
	var err error

	if timeout == 0 {
		out, err = s.core.Look(ctx, ids)
	} else {
		waiting, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		out, err = s.core.Wait(waiting, ids)
	}

	switch {
	case err != nil:
		return nil, wireError(ctx, err)
	case ctx.Err() != nil: // cut off: this may be less than a full wait would have returned
		return nil, wireError(ctx, context.Cause(ctx))
	case len(out) != len(ids):
		return nil, connect.NewError(connect.CodeInternal,
			fmt.Errorf("%d outcomes of %d transactions", len(out), len(ids)))
	}

	return out, nil
}

func (s *nodeService) Get(ctx context.Context,
	req *connect.Request[apiv1.GetRequest]) (*connect.Response[apiv1.GetResponse], error) {
	keys, height := req.Msg.Keys, req.Msg.Height
	if n := len(keys); n == 0 || n > s.limits.MaxKeys {
		return nil, invalid("keys", "%d keys, want 1 to %d", n, s.limits.MaxKeys)
	}

	for i, k := range keys {
		if len(k) == 0 || len(k) > chain.MaxKeyBytes {
			return nil, invalid("keys", "key %d has %d bytes, want 1 to %d", i, len(k), chain.MaxKeyBytes)
		}
	}

	if req.Msg.Consistent {
		if err := mayOrder(ctx); err != nil {
			return nil, err
		}
		if height != 0 {
			return nil, invalid("height", "%d, want 0: a consistent read is of the latest height", height)
		}
		var err error
		if height, err = s.barrier(ctx); err != nil {
			return nil, err
		}
	}

	read, err := s.core.Get(ctx, keys, height, s.limits.MaxRead)
	if err != nil {
		return nil, wireError(ctx, err)
	}

	if len(read.Values) != len(keys) {
		return nil, connect.NewError(connect.CodeInternal,
			fmt.Errorf("%d values of %d keys", len(read.Values), len(keys)))
	}

	values := make([]*apiv1.Value, len(keys))
	for i, v := range read.Values {
		values[i] = &apiv1.Value{Found: v != nil, Value: v}
	}

	return connect.NewResponse(&apiv1.GetResponse{Height: read.Height, Values: values}), nil
}

// barrier submits the transaction that Barrier returns, and returns the height of its block. Every
// transaction that had its result on any node before this call comes earlier in the order.
func (s *nodeService) barrier(ctx context.Context) (height uint64, err error) {
	b, err := s.limits.Barrier()
	if err != nil {
		return 0, wireError(ctx, err)
	}
	submitted, err := s.submitTx(ctx, b)
	if err == nil && errors.Is(submitted[0].Err, chain.ErrExpired) {
		// Block time is ahead of this node's clock, from which the validity was counted.
		if st, down := s.core.Status(ctx); down == nil {
			b.ValidUntil = st.Chain.Time.Add(2 * s.limits.MaxWait).Truncate(time.Millisecond)
			submitted, err = s.submitTx(ctx, b)
		}
	}
	if err != nil {
		return 0, err
	}

	if err := submitted[0].Err; err != nil {
		return 0, connect.NewError(connect.CodeUnavailable,
			fmt.Errorf("consistent read: its transaction was refused: %w", err))
	}

	ended, err := s.wait(ctx, []chain.TxID{submitted[0].ID}, s.limits.MaxWait)
	if err != nil {
		return 0, err
	}

	if ended[0].Result == nil {
		return 0, connect.NewError(connect.CodeUnavailable,
			fmt.Errorf("consistent read: its transaction had no result within %v", s.limits.MaxWait))
	}

	return ended[0].Result.GetVersion().GetHeight(), nil
}

func (s *nodeService) submitTx(ctx context.Context, tx chain.Tx) ([]chain.Submitted, error) {
	encoded, err := tx.Encode()
	if err != nil {
		return nil, wireError(ctx, err)
	}
	return s.submit(ctx, [][]byte{encoded})
}

func (s *nodeService) Status(ctx context.Context,
	_ *connect.Request[apiv1.StatusRequest]) (*connect.Response[apiv1.StatusResponse], error) {
	st, err := s.core.Status(ctx)
	if err != nil {
		return nil, wireError(ctx, err)
	}
	return connect.NewResponse(&apiv1.StatusResponse{
		ChainId: st.Chain.ChainID, Period: st.Chain.Period, Height: st.Chain.Height, AppHash: st.Chain.AppHash,
		BlockTime: timestamp(st.Chain.Time), Version: st.Version, PoolSize: uint64(st.PoolSize), Profile: st.Profile,
		Consensus: st.Consensus, Ready: st.Condition.Able(), LogIndex: st.LogIndex, AppliedIndex: st.AppliedIndex,
		Readiness: ReadinessOf(st.Condition), Held: heldOf(st.Held),
		History: st.History, LogId: st.LogID[:],
	}), nil
}

// Follow streams the records after req.After that have one of the requested kinds.
func (s *nodeService) Follow(ctx context.Context, req *connect.Request[apiv1.FollowRequest],
	stream *connect.ServerStream[apiv1.FollowResponse]) error {
	for _, kind := range req.Msg.Kinds {
		if _, known := chain.KindOf(kind); !known {
			return invalid("kinds", "unknown kind of record %q, want one of %v", kind, chain.KindNames())
		}
	}

	after := client.Cursor{History: req.Msg.History, Index: req.Msg.After}

	if req.Msg.FromNow {
		newest, err := s.core.Newest(ctx)
		if err != nil {
			return wireError(ctx, err)
		}
		after = newest
		// A client that is cut off before the first record continues here.
		if err := stream.Send(&apiv1.FollowResponse{Index: after.Index, History: after.History}); err != nil {
			return err
		}
	}

	err := s.core.Follow(ctx, after, req.Msg.Kinds, func(r Logged) error {
		return stream.Send(&apiv1.FollowResponse{Index: r.Index, History: r.History, Kind: r.Kind, Record: r.Data})
	})

	if err != nil {
		return wireError(ctx, err)
	}

	return nil
}

// duration returns d, or unset if d is nil. It refuses a duration below 0 or above the limit.
func (s *nodeService) duration(field string, d *durationpb.Duration, unset time.Duration) (time.Duration, error) {
	if d == nil {
		return unset, nil
	}
	if err := d.CheckValid(); err != nil {
		return 0, invalid(field, "%w", err)
	}
	if got := d.AsDuration(); got < 0 || got > s.limits.MaxWait {
		return 0, invalid(field, "%v, want 0 to %v", got, s.limits.MaxWait)
	}
	return d.AsDuration(), nil
}

func submittedOutcome(t chain.Submitted) *apiv1.TxOutcome {
	out := &apiv1.TxOutcome{Id: t.ID[:], Outcome: &apiv1.TxOutcome_Accepted{Accepted: &apiv1.Accepted{}}}
	if t.Err != nil {
		out.Outcome = &apiv1.TxOutcome_Refused{
			Refused: &apiv1.Refused{Code: RefusedCode(t.Err), Reason: t.Err.Error()},
		}
	}
	return out
}

func knownOutcome(e chain.Ending) *apiv1.TxOutcome {
	out := &apiv1.TxOutcome{Id: e.ID[:]}
	switch {
	case e.Result != nil:
		out.Outcome = &apiv1.TxOutcome_Result{Result: e.Result}
	case e.Expired != nil:
		out.Outcome = &apiv1.TxOutcome_Expired{Expired: &apiv1.Expired{BlockTime: timestamp(*e.Expired)}}
	default:
		out.Outcome = &apiv1.TxOutcome_Accepted{Accepted: &apiv1.Accepted{}}
	}

	return out
}

// timestamp returns t in its wire form; the zero time becomes an absent field.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// Explorer is a Core that shows blocks, the pool and the network. A Core that is none answers these
// calls with unimplemented. All methods are safe for concurrent use and return when ctx ends.
type Explorer interface {
	// Blocks returns at most count blocks, from the height from (0: the last committed one)
	// downwards. It ends early where the log does. It returns ErrNoHeight if from is not there.
	Blocks(ctx context.Context, from uint64, count int) ([]*apiv1.BlockInfo, error)

	// Block returns one block with at most MaxResults results.
	Block(ctx context.Context, height uint64) (*apiv1.BlockResponse, error)

	// Pool returns figures of the pool and at most count transactions.
	Pool(ctx context.Context, count int) (PoolView, error)

	// Peers returns the condition of the consensus and, as far as it can be had, its network.
	Peers(ctx context.Context) (consensus.Condition, consensus.Network, error)
}

// PoolView is what Pool returns.
type PoolView struct {
	Size, Queued, Executing int
	Bytes                   int64
	Oldest                  time.Duration
	Txs                     [][]byte // canonical bytes, oldest first
}

// Limits of an Explorer's answers.
const (
	MaxResults = 1000

	mostBlocks, usualBlocks = 100, 20
	mostTxs, usualTxs       = 1000, 100
)

func (s *nodeService) explorer() (Explorer, error) {
	e, ok := s.core.(Explorer)
	if !ok {
		return nil, connect.NewError(connect.CodeUnimplemented, errors.New("this node shows no blocks"))
	}
	return e, nil
}

// count returns n, or usual if n is 0. It refuses a number above the limit.
func count(n uint32, usual, most int) (int, error) {
	switch {
	case n == 0:
		return usual, nil
	case int64(n) > int64(most):
		return 0, invalid("count", "%d, want at most %d", n, most)
	}
	return int(n), nil
}

func (s *nodeService) Blocks(ctx context.Context,
	req *connect.Request[apiv1.BlocksRequest]) (*connect.Response[apiv1.BlocksResponse], error) {
	e, err := s.explorer()
	if err != nil {
		return nil, err
	}
	n, err := count(req.Msg.Count, usualBlocks, mostBlocks)
	if err != nil {
		return nil, err
	}

	blocks, err := e.Blocks(ctx, req.Msg.From, n)
	if err != nil {
		return nil, wireError(ctx, err)
	}

	return connect.NewResponse(&apiv1.BlocksResponse{Blocks: blocks}), nil
}

func (s *nodeService) Block(ctx context.Context,
	req *connect.Request[apiv1.BlockRequest]) (*connect.Response[apiv1.BlockResponse], error) {
	e, err := s.explorer()
	if err != nil {
		return nil, err
	}
	b, err := e.Block(ctx, req.Msg.Height)
	if err != nil {
		return nil, wireError(ctx, err)
	}

	return connect.NewResponse(b), nil
}

func (s *nodeService) Pool(ctx context.Context,
	req *connect.Request[apiv1.PoolRequest]) (*connect.Response[apiv1.PoolResponse], error) {
	e, err := s.explorer()
	if err != nil {
		return nil, err
	}
	n, err := count(req.Msg.Count, usualTxs, mostTxs)
	if err != nil {
		return nil, err
	}
	p, err := e.Pool(ctx, n)
	if err != nil {
		return nil, wireError(ctx, err)
	}

	return connect.NewResponse(PoolOf(p)), nil
}

// PoolOf returns the pool in its wire form. A transaction that cannot be decoded has its id and its
// length only.
func PoolOf(p PoolView) *apiv1.PoolResponse {
	m := &apiv1.PoolResponse{
		Size: uint64(clamp(p.Size)), Bytes: uint64(max(p.Bytes, 0)), Queued: uint64(clamp(p.Queued)),
		Executing: uint64(clamp(p.Executing)), Oldest: durationpb.New(p.Oldest),
	}

	for _, raw := range p.Txs {
		id := chain.HashTx(raw)
		t := &apiv1.PoolTx{Id: id[:], Bytes: uint64(len(raw))}
		if tx, err := chain.DecodeTx(raw); err == nil {
			t.Backend, t.ValidUntil = tx.Backend, timestamp(tx.ValidUntil)
		}
		m.Txs = append(m.Txs, t)
	}

	return m
}

func (s *nodeService) Peers(ctx context.Context,
	_ *connect.Request[apiv1.PeersRequest]) (*connect.Response[apiv1.PeersResponse], error) {
	e, err := s.explorer()
	if err != nil {
		return nil, err
	}
	c, network, err := e.Peers(ctx)

	return connect.NewResponse(PeersOf(c, network, err)), nil
}

// PeersOf returns the network of a consensus in its wire form. why says what is missing.
func PeersOf(c consensus.Condition, n consensus.Network, why error) *apiv1.PeersResponse {
	m := &apiv1.PeersResponse{
		Connected: uint32(clamp(c.PeersConnected)), Configured: uint32(clamp(c.PeersConfigured)), Height: c.Height,
		PeersHeight: c.PeersHeight, PowerPresent: c.PowerPresent, PowerTotal: c.PowerTotal, Missing: c.Missing,
		Signing: string(c.Signing), Round: n.Round,
	}
	if why != nil {
		m.PeersError = why.Error()
	}

	for _, p := range n.Peers {
		m.Peers = append(m.Peers, &apiv1.NetworkPeer{Id: p.ID, Name: p.Name, Address: p.Address, Outbound: p.Outbound})
	}

	return m
}
