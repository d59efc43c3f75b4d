package comet

import (
	"context"
	"fmt"

	abci "github.com/cometbft/cometbft/abci/types"

	"github.com/coppice-go/coppice/engines/chain"
)

// conversation is one connection's: the block that Commit will make final is the one that
// FinalizeBlock brought on the same one.
type conversation struct {
	app       *app
	finalized *chain.Block
}

// answer answers one request. Its error is for the log; the connection is then closed and nothing
// is answered, because CometBFT takes an exception for the end of its consensus and lives on
// without it.
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
			return nil, fmt.Errorf("%w: Commit without a FinalizeBlock before it on this connection", errFrame)
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
		// The application's own mempool: not the one that we configure. Code 0 would say that we
		// keep the transaction.
		return abci.ToResponseInsertTx(&abci.ResponseInsertTx{Code: codeNoAppMempool}), nil

	case *abci.Request_ReapTxs:
		return abci.ToResponseReapTxs(&abci.ResponseReapTxs{}), nil
	}
	return nil, fmt.Errorf("%w: a %T", errFrame, req.Value)
}

// response wraps an answer where there is one.
func response[R any](wrap func(R) *abci.Response) func(R, error) (*abci.Response, error) {
	return func(r R, err error) (*abci.Response, error) {
		if err != nil {
			return nil, err
		}
		return wrap(r), nil
	}
}
