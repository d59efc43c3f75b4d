package certificate

import (
	"bytes"
	"context"
	"fmt"

	cmtmath "github.com/cometbft/cometbft/libs/math"
	"github.com/cometbft/cometbft/types"

	"github.com/coppice-go/coppice/engines/consensus"
)

// aThird is the part of the trusted power that must have signed a block of another set.
var aThird = cmtmath.Fraction{Numerator: 1, Denominator: 3}

// Follows returns an error unless the certificate is one of an epoch, with the given chain id, that
// began with the trusted validators: Verify holds, and if others had the power when the epoch
// ended, more than a third of the trusted power has signed, as a light client requires.
func (c Certificate) Follows(chainID string, epoch uint64, trusted *types.ValidatorSet) error {
	if err := c.Verify(chainID, epoch); err != nil {
		return err
	}
	if bytes.Equal(trusted.Hash(), c.Decided.ValidatorsHash) {
		return nil
	}

	commit := c.Decided.Commit
	if err := trusted.VerifyCommitLightTrusting(chainID, commit, aThird); err != nil {
		return fmt.Errorf("%w: block %d: %w", ErrSignatures, commit.Height, err)
	}

	return nil
}

// AllOf asks a peer for its certificates from an epoch on, until it has no more, or most of them.
func AllOf(ctx context.Context, p consensus.Peer, from uint64, most int) (all []consensus.Certificate, err error) {
	for len(all) < most {
		list, err := p.Certificates(ctx, from+uint64(len(all)))
		if err != nil || len(list) == 0 {
			return all, err
		}
		all = append(all, list...)
	}
	return all, nil
}
