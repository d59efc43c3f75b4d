package comet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// certificate proves that a chain has ended at a reset. To precommit the held block, a validator
// must have committed the block that decided the reset. So a commit of the held block says that
// more than two thirds of the power have that decision.
type certificate struct {
	decided *types.LightBlock   // F, the block that decided the reset
	held    *types.LightBlock   // F+1
	after   *types.ValidatorSet // of F+2
}

// errCertificate is the error for a certificate that proves nothing about the chain.
var errCertificate = errors.New("certificate of a reset")

// check returns an error if the certificate is not that of the reset which is due in state s. The
// state after F is our own, so nothing else has to say that F decided the reset.
func (c certificate) check(s chain.State) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %w", errCertificate, fmt.Errorf(format, args...))
	}
	if !s.InHold() {
		return bad("no reset is due in %s at height %d", s.ChainID, s.Height)
	}

	for i, b := range []*types.LightBlock{c.decided, c.held} {
		want := int64(s.Reset.Height) + int64(i)
		if b.Height != want {
			return bad("it has block %d, want %d", b.Height, want)
		}
		if err := b.ValidateBasic(s.ChainID); err != nil {
			return bad("block %d: %w", want, err)
		}
		if err := b.ValidatorSet.VerifyCommitLight(s.ChainID, b.Commit.BlockID, want, b.Commit); err != nil {
			return bad("block %d: %w", want, err)
		}
	}

	held := c.held.Header
	switch {
	case !bytes.Equal(held.LastBlockID.Hash, c.decided.Hash()):
		return bad("block %d follows %X, want %X", held.Height, held.LastBlockID.Hash, c.decided.Hash())
	case !bytes.Equal(c.decided.NextValidatorsHash, held.ValidatorsHash):
		return bad("the validators of block %d are not those that block %d names", held.Height, c.decided.Height)
	case !bytes.Equal(c.after.Hash(), held.NextValidatorsHash):
		return bad("the validators after block %d are not those that it names", held.Height)
	case !bytes.Equal(held.AppHash, s.AppHash):
		return bad("block %d has app hash %X, the state at the reset has %x", held.Height, held.AppHash, s.AppHash)
	case c.decided.Time.UnixNano() != s.Reset.TimeNs:
		return bad("block %d is of %v, the reset of %v", c.decided.Height, c.decided.Time.UTC(), s.Reset.Time().UTC())
	}

	return nil
}

// validators returns the set with which the next epoch begins.
func (c certificate) validators() []*logv1.ValidatorUpdate {
	var out []*logv1.ValidatorUpdate
	for _, v := range c.after.Validators {
		out = append(out, &logv1.ValidatorUpdate{KeyType: comethome.KeyEd25519, PubKey: v.PubKey.Bytes(),
			Power: v.VotingPower})
	}
	slices.SortFunc(out, func(a, b *logv1.ValidatorUpdate) int { return bytes.Compare(a.PubKey, b.PubKey) })
	return out
}

// encode returns the certificate as a logv1.ResetCertificate.
func (c certificate) encode() ([]byte, error) {
	decided, err := c.decided.ToProto()
	if err != nil {
		return nil, err
	}
	held, err := c.held.ToProto()
	if err != nil {
		return nil, err
	}
	after, err := c.after.ToProto()
	if err != nil {
		return nil, err
	}

	m := new(logv1.ResetCertificate)
	if m.Block, err = decided.Marshal(); err != nil {
		return nil, err
	}
	if m.Held, err = held.Marshal(); err != nil {
		return nil, err
	}
	if m.Validators, err = after.Marshal(); err != nil {
		return nil, err
	}

	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

// decodeCertificate decodes a logv1.ResetCertificate. It verifies nothing.
func decodeCertificate(b []byte) (c certificate, err error) {
	m := new(logv1.ResetCertificate)
	if err := proto.Unmarshal(b, m); err != nil {
		return c, fmt.Errorf("%w: %w", errCertificate, err)
	}

	light := func(b []byte) (*types.LightBlock, error) {
		p := new(cmtproto.LightBlock)
		if err := p.Unmarshal(b); err != nil {
			return nil, err
		}
		l, err := types.LightBlockFromProto(p)
		if err == nil && (l.SignedHeader == nil || l.Header == nil || l.Commit == nil || l.ValidatorSet == nil) {
			err = errors.New("a block without header, commit or validators")
		}
		return l, err
	}
	if c.decided, err = light(m.Block); err == nil {
		c.held, err = light(m.Held)
	}

	set := new(cmtproto.ValidatorSet)
	if err == nil {
		err = set.Unmarshal(m.Validators)
	}
	if err == nil {
		c.after, err = types.ValidatorSetFromProto(set)
	}
	if err != nil {
		return c, fmt.Errorf("%w: %w", errCertificate, err)
	}

	return c, nil
}

// certificate asks CometBFT for the certificate of the reset that was decided at a height. It
// returns an error until the block after it is committed.
func (c rpc) certificate(ctx context.Context, decided uint64) (out certificate, err error) {
	at := int64(decided)
	if out.decided, err = c.lightBlock(ctx, at); err != nil {
		return out, err
	}
	if out.held, err = c.lightBlock(ctx, at+1); err != nil {
		return out, err
	}
	out.after, err = c.validatorsAt(ctx, at+2)

	return out, err
}

func (c rpc) lightBlock(ctx context.Context, height int64) (*types.LightBlock, error) {
	res, err := c.Commit(ctx, &height)
	if err != nil {
		return nil, err
	}
	set, err := c.validatorsAt(ctx, height)
	if err != nil {
		return nil, err
	}
	if res.Header == nil || res.Commit == nil {
		return nil, fmt.Errorf("CometBFT has no commit of block %d", height)
	}

	return &types.LightBlock{SignedHeader: &res.SignedHeader, ValidatorSet: set}, nil
}

// validatorsAt returns the whole set of a height.
func (c rpc) validatorsAt(ctx context.Context, height int64) (*types.ValidatorSet, error) {
	var all []*types.Validator
	for page, per := 1, 100; ; page++ {
		res, err := c.Validators(ctx, &height, &page, &per)
		if err != nil {
			return nil, err
		}
		if all = append(all, res.Validators...); res.Count == 0 || len(all) >= res.Total {
			return types.ValidatorSetFromExistingValidators(all)
		}
	}
}
