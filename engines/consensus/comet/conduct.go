package comet

import (
	"fmt"
	"slices"

	abci "github.com/cometbft/cometbft/abci/types"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"

	"github.com/coppice-go/coppice/engines/chain"
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
