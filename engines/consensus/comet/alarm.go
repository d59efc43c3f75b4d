package comet

import (
	"bytes"
	"encoding/hex"

	abci "github.com/cometbft/cometbft/abci/types"
	"go.uber.org/zap"
)

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
