package comettest

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
)

// patience bounds a misbehaviour.
const patience = time.Minute

// Misbehave does one bad thing on a socket, chosen by rng, and returns which one. It sends garbage,
// sends a frame that is oversized, cut or has flipped bits, sends requests and does not read their
// answers, or hangs up at any point. It returns an error if it cannot connect, or if the
// application does not close the connection.
func Misbehave(socket string, rng *rand.Rand) (what string, err error) {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return "", err
	}
	defer c.Close()

	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}

	things := []struct {
		name string
		do   func() []byte
	}{
		{"garbage", func() []byte { return noise(rng, 1+rng.IntN(4096)) }},
		{"a frame of garbage", func() []byte { return Frame(noise(rng, 1+rng.IntN(4096))) }},
		{"an oversized frame", func() []byte {
			return append(binary.AppendUvarint(nil, 1<<28|rng.Uint64N(1<<62)), noise(rng, 64)...)
		}},
		{"half a frame", func() []byte { f := someFrame(rng); return f[:rng.IntN(len(f))] }},
		{"a frame with flipped bits", func() []byte { return flipped(rng, someFrame(rng)) }},
		{"requests without reading the answers", func() []byte {
			var all []byte
			for range 1 + rng.IntN(50) {
				all = append(all, someFrame(rng)...)
			}
			return all
		}},
		{"nothing", func() []byte { return nil }},
		{"a length and no frame", func() []byte { return binary.AppendUvarint(nil, 1+rng.Uint64N(1<<20)) }},
		{"a Commit of nothing", func() []byte { return frameOf(abci.ToRequestCommit()) }},
	}
	thing := things[rng.IntN(len(things))]
	_, _ = c.Write(thing.do()) // the server may hang up during this write or a later one

	switch rng.IntN(3) {
	case 0: // hang up at once
	case 1: // send half of it, and read what comes
		_ = c.(*net.UnixConn).CloseWrite()
		_, err = io.Copy(io.Discard, c)
	case 2: // read a little
		_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, _ = c.Read(make([]byte, 100))
	}

	if errors.Is(err, net.ErrClosed) || err != nil && strings.Contains(err.Error(), "reset") {
		err = nil
	}

	return thing.name, err
}

func noise(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func frameOf(req *abci.Request) []byte {
	b, err := req.Marshal()
	if err != nil {
		panic(err)
	}
	return Frame(b)
}

// someFrame returns a request that any client may make. A FinalizeBlock has a height that cannot be
// the next one: only CometBFT may send the next block, which is why the socket is private.
func someFrame(rng *rand.Rand) []byte {
	frames := []*abci.Request{
		abci.ToRequestEcho("echo"), abci.ToRequestFlush(), abci.ToRequestInfo(&abci.RequestInfo{Version: "x"}),
		abci.ToRequestQuery(&abci.RequestQuery{Path: "/key", Data: noise(rng, 20)}),
		abci.ToRequestCheckTx(&abci.RequestCheckTx{Tx: noise(rng, 200)}),
		abci.ToRequestPrepareProposal(&abci.RequestPrepareProposal{Height: 1 << 40, MaxTxBytes: 1 << 20,
			Txs: [][]byte{noise(rng, 30)}}),
		abci.ToRequestProcessProposal(&abci.RequestProcessProposal{Height: 1 << 40, Txs: [][]byte{noise(rng, 30)}}),
		abci.ToRequestFinalizeBlock(&abci.RequestFinalizeBlock{Height: 1 << 40, Hash: noise(rng, 32),
			Txs: [][]byte{noise(rng, 30)}}),
		abci.ToRequestExtendVote(&abci.RequestExtendVote{Height: 1 << 40}),
		abci.ToRequestVerifyVoteExtension(&abci.RequestVerifyVoteExtension{Height: 1 << 40}),
		abci.ToRequestListSnapshots(&abci.RequestListSnapshots{}),
		abci.ToRequestLoadSnapshotChunk(&abci.RequestLoadSnapshotChunk{Height: 1, Chunk: 7}),
		abci.ToRequestOfferSnapshot(
			&abci.RequestOfferSnapshot{Snapshot: &abci.Snapshot{Height: 9, Chunks: 3, Hash: noise(rng, 32)},
				AppHash: noise(rng, 32)}),
		abci.ToRequestApplySnapshotChunk(&abci.RequestApplySnapshotChunk{Index: 1, Chunk: noise(rng, 64)}),
		abci.ToRequestInitChain(&abci.RequestInitChain{ChainId: "another", AppStateBytes: noise(rng, 20)}),
	}
	return frameOf(frames[rng.IntN(len(frames))])
}

// flipped returns a frame with a few bits flipped, unless the result is a FinalizeBlock of a height
// that could be the next.
func flipped(rng *rand.Rand, frame []byte) []byte {
	for range 1 + rng.IntN(4) {
		frame[rng.IntN(len(frame))] ^= 1 << rng.IntN(8)
	}

	if _, n := binary.Uvarint(frame); n > 0 {
		req := new(abci.Request)
		if req.Unmarshal(frame[n:]) == nil && req.GetFinalizeBlock() != nil && req.GetFinalizeBlock().Height < 1<<30 {
			return nil
		}
	}

	return frame
}
