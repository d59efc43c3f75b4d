package comet

import (
	"context"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"go.uber.org/zap"
)

// queryTime bounds a query, and what an extender may take.
const queryTime = 5 * time.Second

// VoteExtender is a backend that adds data of its own to this validator's precommits (ABCI 2.0 vote extensions). Extensions need
// not be deterministic; what is verified must be judged alike by all honest nodes. Both are called from several goroutines.
type VoteExtender interface {
	// ExtendVote answers what to add to the vote for a block. With an error the vote has no extension.
	ExtendVote(ctx context.Context, v Vote) ([]byte, error)

	// VerifyVoteExtension tells whether another validator's extension may be counted. Honest nodes' must never be refused.
	VerifyVoteExtension(ctx context.Context, v Vote, extension []byte) bool
}

// Vote is what a vote extension belongs to.
type Vote struct {
	Height    uint64
	BlockHash []byte
	Validator []byte   // the address of who extended it; nil for our own
	Txs       [][]byte // of the block; nil when another's is verified
}

func (a *app) extendVote(ctx context.Context, req *abci.RequestExtendVote) *abci.ResponseExtendVote {
	if a.extender == nil {
		return &abci.ResponseExtendVote{}
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	ext, err := a.extender.ExtendVote(ctx, Vote{Height: uint64(req.Height), BlockHash: req.Hash, Txs: req.Txs})
	if err != nil {
		a.log.Warn("vote without its extension", zap.Int64("height", req.Height), zap.Error(err))
		return &abci.ResponseExtendVote{}
	}
	return &abci.ResponseExtendVote{VoteExtension: ext}
}

func (a *app) verifyVoteExtension(ctx context.Context, req *abci.RequestVerifyVoteExtension) *abci.ResponseVerifyVoteExtension {
	ok := a.extender == nil
	if !ok {
		ctx, cancel := context.WithTimeout(ctx, queryTime)
		defer cancel()
		ok = a.extender.VerifyVoteExtension(ctx, Vote{Height: uint64(req.Height), BlockHash: req.Hash, Validator: req.ValidatorAddress}, req.VoteExtension)
	}
	if !ok {
		return &abci.ResponseVerifyVoteExtension{Status: abci.ResponseVerifyVoteExtension_REJECT}
	}
	return &abci.ResponseVerifyVoteExtension{Status: abci.ResponseVerifyVoteExtension_ACCEPT}
}
