package comettest

import (
	"time"

	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"
)

// WrongClock returns a signer for child.Options that votes as a validator whose clock is wrong by
// the given time.
func WrongClock(by time.Duration) func(types.PrivValidator) types.PrivValidator {
	return func(s types.PrivValidator) types.PrivValidator { return wrongClock{s, by} }
}

type wrongClock struct {
	types.PrivValidator
	by time.Duration
}

func (w wrongClock) SignVote(chainID string, v *cmtproto.Vote) error {
	v.Timestamp = v.Timestamp.Add(w.by)
	return w.PrivValidator.SignVote(chainID, v)
}
