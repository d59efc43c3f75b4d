package certificate

import (
	"errors"

	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"
	"google.golang.org/protobuf/proto"

	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Encode returns the certificate as a logv1.ResetCertificate. The same certificate always gives the
// same bytes.
func (c Certificate) Encode() (_ []byte, err error) {
	m := &logv1.ResetCertificate{StateRoot: c.Root}
	if m.Block, err = EncodeBlock(c.Decided); err != nil {
		return nil, err
	}
	if m.Held, err = EncodeBlock(c.Held); err != nil {
		return nil, err
	}

	after, err := c.After.ToProto()
	if err != nil {
		return nil, err
	}
	if m.Validators, err = after.Marshal(); err != nil {
		return nil, err
	}

	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

// Decode decodes a logv1.ResetCertificate. It verifies nothing.
func Decode(b []byte) (c Certificate, err error) {
	m := new(logv1.ResetCertificate)
	if err := proto.Unmarshal(b, m); err != nil {
		return c, ErrForm.because("%w", err)
	}

	c.Root = m.StateRoot
	if c.Decided, err = DecodeBlock(m.Block); err != nil {
		return c, err
	}
	if c.Held, err = DecodeBlock(m.Held); err != nil {
		return c, err
	}

	set := new(cmtproto.ValidatorSet)
	if err = set.Unmarshal(m.Validators); err == nil {
		c.After, err = types.ValidatorSetFromProto(set)
	}
	if err != nil {
		return c, ErrForm.because("%w", err)
	}

	return c, nil
}

// EncodeBlock encodes a block as CometBFT's message LightBlock.
func EncodeBlock(b *types.LightBlock) ([]byte, error) {
	p, err := b.ToProto()
	if err != nil {
		return nil, err
	}
	return p.Marshal()
}

// DecodeBlock decodes CometBFT's message LightBlock. It verifies nothing.
func DecodeBlock(b []byte) (*types.LightBlock, error) {
	p := new(cmtproto.LightBlock)
	if err := p.Unmarshal(b); err != nil {
		return nil, ErrForm.because("%w", err)
	}
	l, err := types.LightBlockFromProto(p)
	if err == nil && (l.SignedHeader == nil || l.Header == nil || l.Commit == nil || l.ValidatorSet == nil) {
		err = errors.New("a block without header, commit or validators")
	}
	if err != nil {
		return nil, ErrForm.because("%w", err)
	}
	return l, nil
}
