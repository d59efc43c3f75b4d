package comet

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	abci "github.com/cometbft/cometbft/abci/types"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
)

// conduct returns the addresses of the validators whose votes a block lacks, and of those against
// which it has evidence of two votes. Both come from the request of the block, which is the same on
// all nodes.
func conduct(b chain.Block) (absent, doubleSigned [][]byte, err error) {
	var req abci.RequestFinalizeBlock
	if err := req.Unmarshal(b.Request); err != nil {
		return nil, nil, fmt.Errorf("the request of %v: %w", b, err)
	}

	for _, v := range req.DecidedLastCommit.Votes {
		if v.BlockIdFlag == cmtproto.BlockIDFlagAbsent {
			absent = append(absent, slices.Clone(v.Validator.Address))
		}
	}

	for _, m := range req.Misbehavior {
		if m.Type == abci.MisbehaviorType_DUPLICATE_VOTE {
			doubleSigned = append(doubleSigned, slices.Clone(m.Validator.Address))
		}
	}

	return absent, doubleSigned, nil
}

// votes returns the votes on the block before a block, and the misbehaviour that the block proves,
// from the block's request.
func votes(request []byte) (list []consensus.CommitVote, proofs []consensus.Misbehavior, err error) {
	var req abci.RequestFinalizeBlock
	if err := req.Unmarshal(request); err != nil {
		return nil, nil, err
	}

	for _, v := range req.DecidedLastCommit.Votes {
		list = append(list, consensus.CommitVote{Validator: v.Validator.Address, Power: v.Validator.Power,
			Flag: flagNames[v.BlockIdFlag]})
	}
	for _, m := range req.Misbehavior {
		proofs = append(proofs, consensus.Misbehavior{Type: strings.ToLower(m.Type.String()),
			Validator: m.Validator.Address, Power: m.Validator.Power, Height: uint64(m.Height), Time: m.Time,
			TotalPower: m.TotalVotingPower})
	}

	return list, proofs, nil
}

// flagNames are what a validator did about a block. A flag that is none of them has no name.
var flagNames = map[cmtproto.BlockIDFlag]string{cmtproto.BlockIDFlagAbsent: "absent",
	cmtproto.BlockIDFlagCommit: "commit", cmtproto.BlockIDFlagNil: "nil"}

// alarm logs each proof that a validator has misbehaved, such as two votes of one key for two
// blocks of one height.
func (a *app) alarm(height int64, proofs []abci.Misbehavior) {
	for _, p := range proofs {
		whose, cure := "another validator", "its operator must stop the second process; the holder of the governance "+
			"key can remove it with 'coppice validators update PUBKEY=0'"
		own := a.validator != nil && bytes.Equal(p.Validator.Address, a.validator)

		if own {
			whose, cure = "this validator", "another process signs with this home's validator key, or did: "+
				"find and stop it before this node goes on, and replace the key"
		}

		a.log.Error("double sign: "+whose+" has signed two different things for one height",
			zap.String("kind", p.Type.String()), zap.String("validator", hex.EncodeToString(p.Validator.Address)),
			zap.Bool("own", own), zap.Int64("at", p.Height), zap.Int64("in_block", height), zap.String("do", cure))
	}
}
