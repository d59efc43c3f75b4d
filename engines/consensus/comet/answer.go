package comet

import (
	"context"
	"fmt"

	abci "github.com/cometbft/cometbft/abci/types"
	pc "github.com/cometbft/cometbft/proto/tendermint/crypto"

	"github.com/coppice-go/coppice/engines/chain"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/comet/wire"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// conversation is the state of one connection. FinalizeBlock brings a block, and Commit on the same
// connection makes that block final.
type conversation struct {
	app       *app
	finalized *chain.Block
}

// answer returns the response to one request. An error is for our log: the caller closes the
// connection without an answer, because an exception would end CometBFT's consensus but leave its
// process alive.
func (c *conversation) answer(ctx context.Context, req *abci.Request) (*abci.Response, error) {
	switch r := req.Value.(type) {
	case *abci.Request_Echo:
		return abci.ToResponseEcho(r.Echo.Message), nil

	case *abci.Request_Flush:
		return abci.ToResponseFlush(), nil

	case *abci.Request_Info:
		return response(abci.ToResponseInfo)(c.app.info(ctx))

	case *abci.Request_Query:
		return abci.ToResponseQuery(c.app.query(ctx, r.Query)), nil

	case *abci.Request_CheckTx:
		return abci.ToResponseCheckTx(c.app.checkTx(ctx, r.CheckTx)), nil

	case *abci.Request_InitChain:
		return response(abci.ToResponseInitChain)(c.app.initChain(ctx, r.InitChain))

	case *abci.Request_PrepareProposal:
		return abci.ToResponsePrepareProposal(c.app.prepareProposal(ctx, r.PrepareProposal)), nil

	case *abci.Request_ProcessProposal:
		return response(abci.ToResponseProcessProposal)(c.app.processProposal(ctx, r.ProcessProposal))

	case *abci.Request_ExtendVote:
		return abci.ToResponseExtendVote(c.app.extendVote(ctx, r.ExtendVote)), nil

	case *abci.Request_VerifyVoteExtension:
		return abci.ToResponseVerifyVoteExtension(c.app.verifyVoteExtension(ctx, r.VerifyVoteExtension)), nil

	case *abci.Request_FinalizeBlock:
		resp, b, err := c.app.finalizeBlock(ctx, r.FinalizeBlock)
		c.finalized = b
		return response(abci.ToResponseFinalizeBlock)(resp, err)

	case *abci.Request_Commit:
		b := c.finalized
		c.finalized = nil
		if b == nil {
			return nil, fmt.Errorf("%w: Commit without a FinalizeBlock before it on this connection", wire.ErrFrame)
		}
		return response(abci.ToResponseCommit)(c.app.commit(ctx, *b))

	case *abci.Request_ListSnapshots:
		return abci.ToResponseListSnapshots(c.app.listSnapshots(ctx)), nil

	case *abci.Request_LoadSnapshotChunk:
		return abci.ToResponseLoadSnapshotChunk(c.app.loadSnapshotChunk(ctx, r.LoadSnapshotChunk)), nil

	case *abci.Request_OfferSnapshot:
		return response(abci.ToResponseOfferSnapshot)(c.app.offerSnapshot(ctx, r.OfferSnapshot))

	case *abci.Request_ApplySnapshotChunk:
		return response(abci.ToResponseApplySnapshotChunk)(c.app.applySnapshotChunk(ctx, r.ApplySnapshotChunk))

	case *abci.Request_InsertTx:
		// InsertTx is for a mempool inside the application, which we do not configure. Code 0 would
		// mean that we keep the transaction.
		return abci.ToResponseInsertTx(&abci.ResponseInsertTx{Code: codeNoAppMempool}), nil

	case *abci.Request_ReapTxs:
		return abci.ToResponseReapTxs(&abci.ResponseReapTxs{}), nil
	}
	return nil, fmt.Errorf("%w: a %T", wire.ErrFrame, req.Value)
}

// response returns a function that wraps an answer, and passes an error through.
func response[R any](wrap func(R) *abci.Response) func(R, error) (*abci.Response, error) {
	return func(r R, err error) (*abci.Response, error) {
		if err != nil {
			return nil, err
		}
		return wrap(r), nil
	}
}

// updateRecord returns a validator in the form of the event log.
func updateRecord(v abci.ValidatorUpdate) (*logv1.ValidatorUpdate, error) {
	key := v.PubKey.GetEd25519()
	if key == nil {
		return nil, fmt.Errorf("validator key of kind %T, want %s", v.PubKey.Sum, comethome.KeyEd25519)
	}
	return &logv1.ValidatorUpdate{KeyType: comethome.KeyEd25519, PubKey: key, Power: v.Power}, nil
}

// updates returns validators in CometBFT's form.
func updates(recs []*logv1.ValidatorUpdate) ([]abci.ValidatorUpdate, error) {
	var out []abci.ValidatorUpdate
	for _, r := range recs {
		if r.KeyType != comethome.KeyEd25519 {
			return nil, fmt.Errorf("validator key of kind %q, want %s", r.KeyType, comethome.KeyEd25519)
		}
		out = append(out, abci.ValidatorUpdate{PubKey: pc.PublicKey{Sum: &pc.PublicKey_Ed25519{Ed25519: r.PubKey}},
			Power: r.Power})
	}

	return out, nil
}
