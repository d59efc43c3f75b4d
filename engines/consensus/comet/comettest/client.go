// Package comettest plays CometBFT's side of ABCI over a unix socket, for tests of the application.
// The test decides which requests are sent, and when.
package comettest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

// Client is one connection. It is not safe for concurrent use.
type Client struct {
	Conn net.Conn
	r    *bufio.Reader
}

// answerTime bounds the wait for an answer.
const answerTime = 20 * time.Second

// Dial connects to a socket.
func Dial(path string) (*Client, error) {
	c, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	return On(c), nil
}

// On returns a client over an existing connection.
func On(c net.Conn) *Client { return &Client{c, bufio.NewReader(c)} }

// Close closes the connection.
func (c *Client) Close() error { return c.Conn.Close() }

// Frame returns a message with its length before it, as it goes over the socket.
func Frame(message []byte) []byte {
	return append(binary.AppendUvarint(nil, uint64(len(message))), message...)
}

// send sends a request without waiting for its answer.
func (c *Client) send(req *abci.Request) error {
	b, err := req.Marshal()
	if err != nil {
		return err
	}
	_, err = c.Conn.Write(Frame(b))
	return err
}

// receive reads one answer. It returns io.EOF if the application closed the connection instead.
func (c *Client) receive() (*abci.Response, error) {
	if err := c.Conn.SetReadDeadline(time.Now().Add(answerTime)); err != nil {
		return nil, err
	}
	b, err := readMessage(c.r)
	if err != nil {
		return nil, err
	}
	resp := new(abci.Response)
	if err := resp.Unmarshal(b); err != nil {
		return nil, err
	}
	if e := resp.GetException(); e != nil {
		return nil, fmt.Errorf("an ABCI exception, which must never be: %s", e.Error)
	}

	return resp, nil
}

func (c *Client) call(req *abci.Request) (*abci.Response, error) {
	if err := c.send(req); err != nil {
		return nil, err
	}
	return c.receive()
}

// Info asks for the last committed height and its app hash.
func (c *Client) Info() (height int64, appHash []byte, err error) {
	r, err := c.call(abci.ToRequestInfo(&abci.RequestInfo{}))
	return r.GetInfo().GetLastBlockHeight(), r.GetInfo().GetLastBlockAppHash(), err
}

// Echo sends a request that the application answers at once.
func (c *Client) Echo(text string) (string, error) {
	r, err := c.call(abci.ToRequestEcho(text))
	return r.GetEcho().GetMessage(), err
}

// InitChain starts the chain, with the given validators.
func (c *Client) InitChain(chainID string, initialHeight int64, appState []byte,
	at time.Time, validators ...comethome.Validator) (appHash []byte, err error) {
	req := &abci.RequestInitChain{ChainId: chainID, InitialHeight: initialHeight, AppStateBytes: appState, Time: at}
	for _, v := range validators {
		req.Validators = append(req.Validators, abci.UpdateValidator(v.PubKey, v.Power, comethome.KeyEd25519))
	}
	r, err := c.call(abci.ToRequestInitChain(req))
	return r.GetInitChain().GetAppHash(), err
}

// Block is the block of a FinalizeBlock.
type Block struct {
	Height int64
	Hash   []byte
	Time   time.Time
	Txs    [][]byte
}

// Finalized is the answer to FinalizeBlock.
type Finalized struct {
	AppHash []byte
	Codes   []uint32
	Data    [][]byte
	Updates int // of validators
}

// FinalizeBlock delivers a decided block.
func (c *Client) FinalizeBlock(b Block) (Finalized, error) {
	if err := c.SendFinalizeBlock(b); err != nil {
		return Finalized{}, err
	}
	return c.ReceiveFinalized()
}

// SendFinalizeBlock delivers a decided block and does not wait.
func (c *Client) SendFinalizeBlock(b Block) error {
	return c.send(abci.ToRequestFinalizeBlock(&abci.RequestFinalizeBlock{Height: b.Height, Hash: b.Hash, Time: b.Time,
		Txs: b.Txs}))
}

// ReceiveFinalized waits for the answer to SendFinalizeBlock.
func (c *Client) ReceiveFinalized() (Finalized, error) {
	r, err := c.receive()
	if err != nil {
		return Finalized{}, err
	}

	fb := r.GetFinalizeBlock()
	f := Finalized{AppHash: fb.AppHash, Updates: len(fb.ValidatorUpdates)}
	for _, t := range fb.TxResults {
		f.Codes, f.Data = append(f.Codes, t.Code), append(f.Data, t.Data)
	}

	return f, nil
}

// Commit makes the block final.
func (c *Client) Commit() (retainHeight int64, err error) {
	r, err := c.call(abci.ToRequestCommit())
	return r.GetCommit().GetRetainHeight(), err
}

// SendCommit makes the block final and does not wait.
func (c *Client) SendCommit() error { return c.send(abci.ToRequestCommit()) }

// CheckTx asks whether a transaction may be in the mempool.
func (c *Client) CheckTx(tx []byte, recheck bool) (code uint32, log string, err error) {
	q := &abci.RequestCheckTx{Tx: tx}
	if recheck {
		q.Type = abci.CheckTxType_Recheck
	}
	r, err := c.call(abci.ToRequestCheckTx(q))
	return r.GetCheckTx().GetCode(), r.GetCheckTx().GetLog(), err
}

// Prepare asks for a proposal.
func (c *Client) Prepare(height int64, at time.Time, maxBytes int64, txs ...[]byte) ([][]byte, error) {
	r, err := c.call(abci.ToRequestPrepareProposal(&abci.RequestPrepareProposal{Height: height, Time: at,
		MaxTxBytes: maxBytes, Txs: txs}))
	return r.GetPrepareProposal().GetTxs(), err
}

// Process asks whether a proposal is accepted.
func (c *Client) Process(b Block) (bool, error) {
	r, err := c.call(abci.ToRequestProcessProposal(&abci.RequestProcessProposal{Height: b.Height, Hash: b.Hash,
		Time: b.Time, Txs: b.Txs}))
	return r.GetProcessProposal().IsAccepted(), err
}

// Query reads a key.
func (c *Client) Query(path string, key []byte, height int64) (value []byte, code uint32, log string, err error) {
	r, err := c.call(abci.ToRequestQuery(&abci.RequestQuery{Path: path, Data: key, Height: height}))
	q := r.GetQuery()
	if q == nil {
		q = &abci.ResponseQuery{}
	}
	return q.Value, q.Code, q.Log, err
}

// SendQuery asks for a key and does not wait.
func (c *Client) SendQuery(key []byte) error {
	return c.send(abci.ToRequestQuery(&abci.RequestQuery{Path: "/key", Data: key}))
}

// Snapshot is a snapshot that an application offers, in the form in which it is sent.
type Snapshot = abci.Snapshot

// Snapshots returns the snapshots that the application offers to peers.
func (c *Client) Snapshots() ([]*Snapshot, error) {
	r, err := c.call(abci.ToRequestListSnapshots(&abci.RequestListSnapshots{}))
	return r.GetListSnapshots().GetSnapshots(), err
}

// Chunk returns a chunk of a snapshot that the application offers. The chunk is empty if there is
// none.
func (c *Client) Chunk(height uint64, format, index uint32) ([]byte, error) {
	r, err := c.call(abci.ToRequestLoadSnapshotChunk(&abci.RequestLoadSnapshotChunk{Height: height, Format: format,
		Chunk: index}))
	return r.GetLoadSnapshotChunk().GetChunk(), err
}

// Offer offers a peer's snapshot and returns the name of the result.
func (c *Client) Offer(s *Snapshot, appHash []byte) (string, error) {
	r, err := c.call(abci.ToRequestOfferSnapshot(&abci.RequestOfferSnapshot{Snapshot: s, AppHash: appHash}))
	return r.GetOfferSnapshot().GetResult().String(), err
}

// Applied is the answer to a chunk.
type Applied struct {
	Result  string
	Refetch []uint32
	Reject  []string // senders
}

// Apply sends a chunk of a peer's snapshot.
func (c *Client) Apply(index uint32, chunk []byte, sender string) (Applied, error) {
	r, err := c.call(abci.ToRequestApplySnapshotChunk(&abci.RequestApplySnapshotChunk{Index: index, Chunk: chunk,
		Sender: sender}))
	a := r.GetApplySnapshotChunk()
	return Applied{a.GetResult().String(), a.GetRefetchChunks(), a.GetRejectSenders()}, err
}
