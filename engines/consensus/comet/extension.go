package comet

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
)

// queryTime bounds a query, and a call of the extender for a vote.
const queryTime = 5 * time.Second

func (a *app) extendVote(ctx context.Context, req *abci.RequestExtendVote) *abci.ResponseExtendVote {
	var ext []byte
	a.extend(ctx, queryTime, "vote without its extension", req.Height,
		func(ctx context.Context, e consensus.VoteExtender) error {
			said, err := e.ExtendVote(ctx, consensus.Vote{Height: uint64(req.Height), BlockHash: req.Hash,
				Txs: req.Txs})
			if err == nil {
				ext = said
			}
			return err
		})
	return &abci.ResponseExtendVote{VoteExtension: ext}
}

// verifyVoteExtension returns the extender's judgement of another validator's extension. Without an
// extender it accepts every extension, because a refused vote is lost to the consensus.
func (a *app) verifyVoteExtension(ctx context.Context,
	req *abci.RequestVerifyVoteExtension) *abci.ResponseVerifyVoteExtension {
	ok := a.extender == nil
	a.extend(ctx, queryTime, "vote extension refused", req.Height,
		func(ctx context.Context, e consensus.VoteExtender) error {
			v := consensus.Vote{Height: uint64(req.Height), BlockHash: req.Hash, Validator: req.ValidatorAddress}
			if ok = e.VerifyVoteExtension(ctx, v, req.VoteExtension); !ok {
				return fmt.Errorf("the extension of validator %X is not valid", req.ValidatorAddress)
			}
			return nil
		})

	if !ok {
		return &abci.ResponseVerifyVoteExtension{Status: abci.ResponseVerifyVoteExtension_REJECT}
	}
	return &abci.ResponseVerifyVoteExtension{Status: abci.ResponseVerifyVoteExtension_ACCEPT}
}

// ofExtensions returns the transactions that the extender makes from the votes for the previous
// block, which is the last one that s has. It verifies each vote again, because CometBFT does not
// verify a vote that arrives after its block was decided.
func (a *app) ofExtensions(ctx context.Context, s chain.State, req *abci.RequestPrepareProposal) (txs [][]byte) {
	p, ok := a.extender.(consensus.Proposer)
	if !ok {
		return nil
	}

	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()

	holds := func(v abci.ExtendedVoteInfo) bool {
		return a.verifyVoteExtension(ctx, &abci.RequestVerifyVoteExtension{
			Height: req.Height - 1, Hash: s.BlockHash, ValidatorAddress: v.Validator.Address,
			VoteExtension: v.VoteExtension,
		}).IsAccepted()
	}

	var votes []consensus.ExtendedVote
	for _, v := range req.LocalLastCommit.Votes {
		if v.BlockIdFlag == cmtproto.BlockIDFlagCommit && len(v.VoteExtension) > 0 && holds(v) {
			votes = append(votes, consensus.ExtendedVote{
				Validator: v.Validator.Address, Power: v.Validator.Power, Extension: v.VoteExtension,
				Signature: v.ExtensionSignature, Round: req.LocalLastCommit.Round,
			})
		}
	}

	if len(votes) == 0 {
		return nil
	}

	a.extend(ctx, askTime, "proposal without the transactions of its vote extensions", req.Height,
		func(ctx context.Context, _ consensus.VoteExtender) error {
			made, err := p.Propose(ctx, uint64(req.Height), votes)
			if err == nil {
				txs = made
			}
			return err
		})

	return txs
}

// extend calls the extender, if there is one. It logs errors and panics of the extender. The
// consensus then continues without the extension.
func (a *app) extend(ctx context.Context, limit time.Duration, without string, height int64,
	f func(context.Context, consensus.VoteExtender) error) {
	if a.extender == nil {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			a.log.Error(without, zap.Int64("height", height), zap.Any("panic", p),
				zap.ByteString("stack", debug.Stack()))
		}
	}()

	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	if err := f(ctx, a.extender); err != nil {
		a.log.Warn(without, zap.Int64("height", height), zap.Error(err))
	}
}
