package comet

import (
	"context"
	"errors"
	"fmt"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// mostSnapshots is the number of snapshots that CometBFT passes on to a peer.
const mostSnapshots = 10

// listSnapshots returns the snapshots that this node offers to peers.
func (a *app) listSnapshots(context.Context) *abci.ResponseListSnapshots {
	resp := new(abci.ResponseListSnapshots)
	if a.core.StateSync == nil {
		return resp
	}

	for _, s := range a.core.StateSync.List() {
		if len(resp.Snapshots) == mostSnapshots {
			break
		}
		resp.Snapshots = append(resp.Snapshots, &abci.Snapshot{Height: s.Height, Format: s.Format, Chunks: s.Chunks,
			Hash: s.Hash, Metadata: s.Metadata})
	}

	return resp
}

// loadSnapshotChunk returns a chunk for a peer. The answer is empty if the chunk is missing or
// damaged: CometBFT then tells the peer that it is missing.
func (a *app) loadSnapshotChunk(_ context.Context, req *abci.RequestLoadSnapshotChunk) *abci.ResponseLoadSnapshotChunk {
	if a.core.StateSync == nil {
		return &abci.ResponseLoadSnapshotChunk{}
	}

	chunk, err := a.core.StateSync.Chunk(req.Height, req.Format, req.Chunk)
	if err != nil {
		if !errors.Is(err, consensus.ErrNoSnapshot) {
			a.log.Warn("a chunk of a snapshot for peers cannot be read", zap.Uint64("height", req.Height),
				zap.Uint32("chunk", req.Chunk), zap.Error(err))
		}
		chunk = nil
	}

	return &abci.ResponseLoadSnapshotChunk{Chunk: chunk}
}

// offerSnapshot begins to take a snapshot. It returns an error only for a failure of this node,
// which then cannot judge the snapshot.
func (a *app) offerSnapshot(ctx context.Context, req *abci.RequestOfferSnapshot) (*abci.ResponseOfferSnapshot, error) {
	defer a.working()()

	a.synced.Store(time.Now().UnixNano())
	answer := func(r abci.ResponseOfferSnapshot_Result, err error) (*abci.ResponseOfferSnapshot, error) {
		if err != nil {
			a.log.Warn("snapshot refused", zap.Uint64("height", req.Snapshot.GetHeight()), zap.Stringer("answer", r),
				zap.Error(err))
		}
		return &abci.ResponseOfferSnapshot{Result: r}, nil
	}

	if a.core.StateSync == nil || req.Snapshot == nil {
		return answer(abci.ResponseOfferSnapshot_REJECT, errors.New("this node takes no snapshots"))
	}
	o, err := a.offer(req)
	if err != nil {
		return answer(abci.ResponseOfferSnapshot_REJECT, err)
	}

	err = whileDown(ctx, func() error { return a.core.StateSync.Offer(ctx, o) })
	switch {
	case err == nil:
		return answer(abci.ResponseOfferSnapshot_ACCEPT, nil)
	case ctx.Err() != nil:
		return nil, err
	case errors.Is(err, consensus.ErrSnapshotFormat):
		return answer(abci.ResponseOfferSnapshot_REJECT_FORMAT, err)
	case errors.Is(err, consensus.ErrSnapshot):
		return answer(abci.ResponseOfferSnapshot_REJECT, err)
	}

	return nil, err
}

// offer adds to a peer's snapshot what this node knows from elsewhere: its own genesis, and the
// block that the light client of our child vouches for.
func (a *app) offer(req *abci.RequestOfferSnapshot) (o consensus.Offer, err error) {
	s := req.Snapshot
	o.Snapshot = consensus.Snapshot{Height: s.Height, Format: s.Format, Chunks: s.Chunks, Hash: s.Hash,
		Metadata: s.Metadata}
	c, err := comethome.LoadConfig(a.home)
	if err != nil {
		return o, err
	}
	t, err := comethome.ReadTrusted(c.DBDir())
	if err != nil {
		return o, err
	}

	if t.Height != s.Height || string(t.AppHash) != string(req.AppHash) {
		return o, fmt.Errorf("the light client vouches for height %d with app hash %x, the offer is for "+
			"height %d with %x",
			t.Height, t.AppHash, s.Height, req.AppHash)
	}

	o.AppHash, o.BlockHash, o.Time = t.AppHash, t.BlockHash, t.Time
	o.Chain, err = a.chainStarted()
	return o, err
}

// chainStarted returns the record that InitChain would have made, which CometBFT does not send to a
// node that begins with a snapshot.
func (a *app) chainStarted() (*logv1.ChainStarted, error) {
	g, err := comethome.ReadGenesis(a.home)
	if err != nil {
		return nil, err
	}

	req := &abci.RequestInitChain{ChainId: g.ChainID, Time: g.Time, InitialHeight: int64(g.InitialHeight),
		AppStateBytes: g.AppState}

	for _, v := range g.Validators {
		req.Validators = append(req.Validators, abci.UpdateValidator(v.PubKey, v.Power, comethome.KeyEd25519))
	}

	// In a later epoch the chain begins with the app hash that its genesis names.
	var s chain.State
	if epoch, ok := chain.EpochOf(g.ChainID, a.core.Genesis.GetChainId()); ok && epoch > 0 {
		doc, err := comethome.ReadGenesisDoc(comethome.GenesisPath(a.home))
		if err != nil {
			return nil, err
		}
		s = chain.State{ChainID: g.ChainID, Period: epoch, AppHash: doc.AppHash}
	}

	rec, err := a.genesis(req, s)
	if err == nil {
		rec.InitChain = nil // there was no InitChain
	}

	return rec, err
}

// chunkPause is the wait before the node begins again with a snapshot that it could not take, for
// example because a disk was full.
const chunkPause = 2 * time.Second

// applySnapshotChunk takes a chunk. It makes CometBFT fetch a damaged chunk again from another
// peer, refuses a snapshot that cannot be taken, and tries again after an error of this node.
func (a *app) applySnapshotChunk(ctx context.Context,
	req *abci.RequestApplySnapshotChunk) (*abci.ResponseApplySnapshotChunk, error) {
	defer a.working()()

	a.synced.Store(time.Now().UnixNano())
	a.health.chunk()
	defer func() { a.synced.Store(time.Now().UnixNano()) }()

	if a.core.StateSync == nil {
		return &abci.ResponseApplySnapshotChunk{Result: abci.ResponseApplySnapshotChunk_REJECT_SNAPSHOT}, nil
	}
	err := a.core.StateSync.Apply(ctx, req.Index, req.Chunk)
	if err == nil {
		return &abci.ResponseApplySnapshotChunk{Result: abci.ResponseApplySnapshotChunk_ACCEPT}, nil
	}
	if ctx.Err() != nil {
		return nil, err
	}

	a.log.Warn("chunk of a snapshot not taken", zap.Uint32("chunk", req.Index), zap.String("sender", req.Sender),
		zap.Error(err))

	order := new(consensus.ChunkOrderError)
	switch {
	case errors.Is(err, consensus.ErrChunk):
		resp := &abci.ResponseApplySnapshotChunk{Result: abci.ResponseApplySnapshotChunk_RETRY,
			RefetchChunks: []uint32{req.Index}}
		if req.Sender != "" {
			resp.RejectSenders = []string{req.Sender}
		}
		return resp, nil

	case errors.As(err, &order):
		return &abci.ResponseApplySnapshotChunk{Result: abci.ResponseApplySnapshotChunk_RETRY,
			RefetchChunks: []uint32{order.Want}}, nil

	case errors.Is(err, consensus.ErrSnapshot):
		return &abci.ResponseApplySnapshotChunk{Result: abci.ResponseApplySnapshotChunk_REJECT_SNAPSHOT}, nil
	case errors.Is(err, consensus.ErrNoSnapshot):
	default:
		if err := engines.Pause(ctx, chunkPause); err != nil {
			return nil, err
		}
	}

	return &abci.ResponseApplySnapshotChunk{Result: abci.ResponseApplySnapshotChunk_RETRY_SNAPSHOT}, nil
}
