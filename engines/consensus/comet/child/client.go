package child

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"sync"

	abcicli "github.com/cometbft/cometbft/abci/client"
	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/libs/service"

	"github.com/coppice-go/coppice/engines/consensus/comet/wire"
)

// client is CometBFT's end of one ABCI connection, in the process that runs CometBFT. It speaks the
// protocol of CometBFT's own socket client and replaces that client, which spends more on each
// CheckTx than CometBFT does on the transaction (docs/adr/0060).
//
// Requests are answered in order. A caller appends its encoded request to those that wait to be
// written, and one goroutine writes them all, so that a burst of requests is one write. If too many
// bytes wait, callers wait too. The client need not send a Flush to get its answers, because our
// server sends all of them when it has no further request to read.
//
// If the connection fails, the client ends with an Error, as CometBFT's own client does, and
// CometBFT then ends its process.
type client struct {
	service.BaseService
	path string
	conn net.Conn

	mu       sync.Mutex
	work     sync.Cond // on mu: there are requests to write, or the client has ended
	room     sync.Cond // on mu: fewer bytes wait, or the client has ended
	out      []byte    // requests to write
	asked    asked     // without an answer, oldest first
	ended    bool
	err      error // why the client ended, if it was not stopped
	callback abcicli.Callback
}

const (
	// maxOut is the number of bytes of requests that may gather.
	maxOut = 256 << 10

	// maxAnswer bounds the length of an answer. The answers come from our own process.
	maxAnswer = 1 << 30
)

// ErrClientStopped is the error of a call after the client was stopped. After the connection has
// failed, a call returns that failure instead.
var ErrClientStopped = errors.New("the ABCI client was stopped")

// Clients creates the clients of CometBFT's connections. Its value is the path of our server's
// socket.
type Clients string

// NewABCIClient implements proxy.ClientCreator.
func (path Clients) NewABCIClient() (abcicli.Client, error) {
	c := &client{path: string(path)}
	c.work.L, c.room.L = &c.mu, &c.mu
	c.BaseService = *service.NewBaseService(nil, "abci client", c)
	return c, nil
}

// OnStart connects. It tries once, because our server listens before it starts CometBFT.
func (c *client) OnStart() error {
	conn, err := net.Dial("unix", c.path)
	if err != nil {
		return err
	}
	c.conn = conn
	go c.write()
	go c.read()
	return nil
}

// OnStop closes the connection and releases all callers that wait.
func (c *client) OnStop() {
	c.conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()

	c.ended = true
	for r := c.asked.take(); r != nil; r = c.asked.take() {
		r.Done()
	}

	c.work.Broadcast()
	c.room.Broadcast()
}

// fail ends the client. The first err becomes its Error.
func (c *client) fail(err error) {
	if !c.IsRunning() {
		return
	}

	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.mu.Unlock()

	// CometBFT's own client logs this text, and programs that watch CometBFT look for it.
	c.Logger.Error("Stopping abci.socketClient for error: " + err.Error())
	c.Stop() // its error says only that the client was already stopped
}

// Error returns why the client has ended, or nil if it still runs or was stopped.
func (c *client) Error() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// SetResponseCallback sets f, which is called with each answer before the callback of its request.
func (c *client) SetResponseCallback(f abcicli.Callback) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.callback = f
}

// send queues a request behind the others.
func (c *client) send(ctx context.Context, req *abci.Request) (*abcicli.ReqRes, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}

	r := abcicli.NewReqRes(req)
	c.mu.Lock()
	defer c.mu.Unlock()

	for len(c.out) >= maxOut && !c.ended {
		c.room.Wait()
	}

	if c.ended {
		return nil, c.whyLocked()
	}
	out, err := wire.AppendFrame(c.out, req)
	if err != nil {
		return nil, err
	}

	c.out = out
	c.asked.put(r)
	c.work.Signal()

	return r, nil
}

func (c *client) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.whyLocked()
}

func (c *client) whyLocked() error {
	if c.err != nil {
		return c.err
	}
	return ErrClientStopped
}

// write writes the queued requests, as long as the client runs.
func (c *client) write() {
	var b []byte
	for {
		if b = b[:0]; cap(b) > wire.ReadStep {
			b = nil // a large block is rare enough to let its memory go
		}

		c.mu.Lock()
		for len(c.out) == 0 && !c.ended {
			c.work.Wait()
		}

		if c.ended {
			c.mu.Unlock()
			return
		}

		b, c.out = c.out, b
		c.room.Broadcast()
		c.mu.Unlock()

		if _, err := c.conn.Write(b); err != nil {
			c.fail(fmt.Errorf("writing requests: %w", err))
			return
		}
	}
}

// read reads answers as long as they come.
func (c *client) read() {
	r := bufio.NewReaderSize(c.conn, 64<<10)
	var buf []byte

	for {
		resp, b, err := wire.ReadResponse(r, maxAnswer, buf)
		if err == nil {
			err = c.answered(resp)
		}
		if err != nil {
			c.fail(fmt.Errorf("read message: %w", err))
			return
		}

		if buf = b; cap(buf) > wire.ReadStep {
			buf = nil
		}
	}
}

// answered makes resp the answer to the oldest request. It returns an error if there is no request,
// or if resp is not of the kind that it asks for.
func (c *client) answered(resp *abci.Response) error {
	c.mu.Lock()
	r, callback := c.asked.take(), c.callback
	c.mu.Unlock()

	if r == nil {
		return fmt.Errorf("%w: a %T without a request", wire.ErrFrame, resp.Value)
	}

	if !fits(r.Request, resp) {
		r.Done() // it has no answer
		return fmt.Errorf("%w: a %T is answered with a %T", wire.ErrFrame, r.Request.Value, resp.Value)
	}

	r.Response = resp
	r.Done()
	if callback != nil {
		callback(r.Request, resp)
	}

	r.InvokeCallback()

	return nil
}

// fits reports whether resp is of the kind that req asks for. Most requests are CheckTx.
func fits(req *abci.Request, resp *abci.Response) bool {
	if _, ok := req.Value.(*abci.Request_CheckTx); ok {
		_, ok := resp.Value.(*abci.Response_CheckTx)
		return ok
	}
	name := func(v any) string { return reflect.TypeOf(v).Elem().Field(0).Name }
	return name(req.Value) == name(resp.Value)
}

// asked is the queue of the requests that have no answer yet.
type asked struct {
	list []*abcicli.ReqRes
	head int
}

func (q *asked) put(r *abcicli.ReqRes) {
	if q.head > 1024 && q.head > len(q.list)/2 { // release the memory of taken requests
		n := copy(q.list, q.list[q.head:])
		clear(q.list[n:])
		q.list, q.head = q.list[:n], 0
	}
	q.list = append(q.list, r)
}

// take removes and returns the oldest request, or nil if there is none.
func (q *asked) take() *abcicli.ReqRes {
	if q.head == len(q.list) {
		return nil
	}
	r := q.list[q.head]
	q.list[q.head] = nil
	q.head++
	return r
}

// ask sends a request and waits for its answer.
func ask[R any](ctx context.Context, c *client, req *abci.Request, of func(*abci.Response) *R) (*R, error) {
	r, err := c.send(ctx, req)
	if err != nil {
		return nil, err
	}

	r.Wait()
	if r.Response == nil {
		return nil, c.why()
	}

	return of(r.Response), nil
}

// CheckTxAsync sends the request and does not wait.
func (c *client) CheckTxAsync(ctx context.Context, req *abci.RequestCheckTx) (*abcicli.ReqRes, error) {
	return c.send(ctx, abci.ToRequestCheckTx(req))
}

// Flush waits until all earlier requests have their answers.
func (c *client) Flush(ctx context.Context) error {
	_, err := ask(ctx, c, abci.ToRequestFlush(), (*abci.Response).GetFlush)
	return err
}

// The remaining methods implement abci.Application.

func (c *client) Echo(ctx context.Context, message string) (*abci.ResponseEcho, error) {
	return ask(ctx, c, abci.ToRequestEcho(message), (*abci.Response).GetEcho)
}

func (c *client) Info(ctx context.Context, req *abci.RequestInfo) (*abci.ResponseInfo, error) {
	return ask(ctx, c, abci.ToRequestInfo(req), (*abci.Response).GetInfo)
}

func (c *client) Query(ctx context.Context, req *abci.RequestQuery) (*abci.ResponseQuery, error) {
	return ask(ctx, c, abci.ToRequestQuery(req), (*abci.Response).GetQuery)
}

func (c *client) CheckTx(ctx context.Context, req *abci.RequestCheckTx) (*abci.ResponseCheckTx, error) {
	return ask(ctx, c, abci.ToRequestCheckTx(req), (*abci.Response).GetCheckTx)
}

func (c *client) InsertTx(ctx context.Context, req *abci.RequestInsertTx) (*abci.ResponseInsertTx, error) {
	return ask(ctx, c, abci.ToRequestInsertTx(req), (*abci.Response).GetInsertTx)
}

func (c *client) ReapTxs(ctx context.Context, req *abci.RequestReapTxs) (*abci.ResponseReapTxs, error) {
	return ask(ctx, c, abci.ToRequestReapTxs(req), (*abci.Response).GetReapTxs)
}

func (c *client) InitChain(ctx context.Context, req *abci.RequestInitChain) (*abci.ResponseInitChain, error) {
	return ask(ctx, c, abci.ToRequestInitChain(req), (*abci.Response).GetInitChain)
}

func (c *client) PrepareProposal(ctx context.Context,
	req *abci.RequestPrepareProposal) (*abci.ResponsePrepareProposal, error) {
	return ask(ctx, c, abci.ToRequestPrepareProposal(req), (*abci.Response).GetPrepareProposal)
}

func (c *client) ProcessProposal(ctx context.Context,
	req *abci.RequestProcessProposal) (*abci.ResponseProcessProposal, error) {
	return ask(ctx, c, abci.ToRequestProcessProposal(req), (*abci.Response).GetProcessProposal)
}

func (c *client) ExtendVote(ctx context.Context, req *abci.RequestExtendVote) (*abci.ResponseExtendVote, error) {
	return ask(ctx, c, abci.ToRequestExtendVote(req), (*abci.Response).GetExtendVote)
}

func (c *client) VerifyVoteExtension(ctx context.Context,
	req *abci.RequestVerifyVoteExtension) (*abci.ResponseVerifyVoteExtension, error) {
	return ask(ctx, c, abci.ToRequestVerifyVoteExtension(req), (*abci.Response).GetVerifyVoteExtension)
}

func (c *client) FinalizeBlock(ctx context.Context,
	req *abci.RequestFinalizeBlock) (*abci.ResponseFinalizeBlock, error) {
	return ask(ctx, c, abci.ToRequestFinalizeBlock(req), (*abci.Response).GetFinalizeBlock)
}

func (c *client) Commit(ctx context.Context, _ *abci.RequestCommit) (*abci.ResponseCommit, error) {
	return ask(ctx, c, abci.ToRequestCommit(), (*abci.Response).GetCommit)
}

func (c *client) ListSnapshots(ctx context.Context,
	req *abci.RequestListSnapshots) (*abci.ResponseListSnapshots, error) {
	return ask(ctx, c, abci.ToRequestListSnapshots(req), (*abci.Response).GetListSnapshots)
}

func (c *client) OfferSnapshot(ctx context.Context,
	req *abci.RequestOfferSnapshot) (*abci.ResponseOfferSnapshot, error) {
	return ask(ctx, c, abci.ToRequestOfferSnapshot(req), (*abci.Response).GetOfferSnapshot)
}

func (c *client) LoadSnapshotChunk(ctx context.Context,
	req *abci.RequestLoadSnapshotChunk) (*abci.ResponseLoadSnapshotChunk, error) {
	return ask(ctx, c, abci.ToRequestLoadSnapshotChunk(req), (*abci.Response).GetLoadSnapshotChunk)
}

func (c *client) ApplySnapshotChunk(ctx context.Context,
	req *abci.RequestApplySnapshotChunk) (*abci.ResponseApplySnapshotChunk, error) {
	return ask(ctx, c, abci.ToRequestApplySnapshotChunk(req), (*abci.Response).GetApplySnapshotChunk)
}
