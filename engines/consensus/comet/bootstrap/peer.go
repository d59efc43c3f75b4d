package bootstrap

import (
	"context"
	"fmt"

	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/rpc/client"
	"github.com/cometbft/cometbft/types"

	"github.com/coppice-go/coppice/engines/consensus"
)

// Peer returns the witness that asks another node by its API. It works also if nobody can reach the
// RPC of that node's CometBFT, which is the default.
func Peer(p consensus.Peer) Witness { return peer{p} }

type peer struct{ consensus.Peer }

func (peer) Close() {}

// LightBlock implements Witness.
func (p peer) LightBlock(ctx context.Context, height int64) (*types.LightBlock, error) {
	b, _, err := p.Peer.LightBlock(ctx, uint64(height))
	if err != nil {
		return nil, err
	}
	if len(b) == 0 {
		return nil, fmt.Errorf("%w: it has no block %d", consensus.ErrNoSnapshot, height)
	}

	m := new(cmtproto.LightBlock)
	if err := m.Unmarshal(b); err != nil {
		return nil, fmt.Errorf("its block %d: %w", height, err)
	}
	return types.LightBlockFromProto(m)
}

// Validators implements Witness.
func (p peer) Validators(ctx context.Context, height int64) (*types.ValidatorSet, error) {
	_, b, err := p.Peer.LightBlock(ctx, uint64(height))
	if err != nil {
		return nil, err
	}

	m := new(cmtproto.ValidatorSet)
	if err := m.Unmarshal(b); err != nil {
		return nil, fmt.Errorf("its validators of height %d: %w", height, err)
	}
	return types.ValidatorSetFromProto(m)
}

// Serve returns what Peer asks for, as the CometBFT of c has it.
func Serve(ctx context.Context, c client.SignClient, height uint64) (block, validators []byte, err error) {
	set, err := Validators(ctx, c, int64(height))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: the validators of height %d: %w", consensus.ErrNoSnapshot, height, err)
	}
	m, err := set.ToProto()
	if err != nil {
		return nil, nil, err
	}
	if validators, err = m.Marshal(); err != nil {
		return nil, nil, err
	}

	at := int64(height)
	res, err := c.Commit(ctx, &at)
	if err != nil || res.Header == nil || res.Commit == nil {
		return nil, validators, nil // the block is to come
	}
	lb, err := (&types.LightBlock{SignedHeader: &res.SignedHeader, ValidatorSet: set}).ToProto()
	if err != nil {
		return nil, nil, err
	}
	block, err = lb.Marshal()

	return block, validators, err
}
