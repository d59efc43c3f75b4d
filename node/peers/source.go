package peers

import (
	"context"
	"fmt"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/node/api"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// Source answers the peers of this node. It implements api.Peers and is safe for concurrent use.
type Source struct {
	Name  string // of the chain
	Agent Agent

	// State reads the committed state of the chain.
	State func(ctx context.Context) (chain.State, error)

	// Driver is the consensus. Only a consensus.Certifier has certificates.
	Driver consensus.Driver

	// States has the states at resets; nil: the node keeps none.
	States States
}

// States has the states at resets that a node keeps for its peers. Its methods are those of
// consensus.Peer.
type States interface {
	AtReset(epoch uint64) (metadata []byte, err error)
	ResetChunk(hash []byte, index uint32) ([]byte, error)
}

var _ api.Peers = Source{}

// Standing implements api.Peers.
func (s Source) Standing(ctx context.Context) (*apiv1.StandingResponse, error) {
	at, err := s.State(ctx)
	if err != nil {
		return nil, api.Unavailable(err)
	}

	b, signature, err := s.Agent.sign(standingDomain, &apiv1.Standing{Name: s.Name, Epoch: at.Period,
		Height: at.Height, BlockHash: at.BlockHash, AppHash: at.AppHash})

	return &apiv1.StandingResponse{Standing: b, Signature: signature}, err
}

// Certificates implements api.Peers.
func (s Source) Certificates(_ context.Context, from uint64) ([]*apiv1.Certificate, error) {
	c, ok := s.Driver.(consensus.Certifier)
	if !ok {
		return nil, nil
	}
	list, err := c.Certificates(from, api.MaxCertificates)
	if err != nil {
		return nil, fmt.Errorf("the certificates of the resets: %w", err)
	}

	var out []*apiv1.Certificate

	for _, c := range list {
		agent := s.Agent
		if c.Root == nil {
			agent = Agent{} // without its root a point says nothing
		}

		point, signature, err := agent.sign(pointDomain, &apiv1.ResetPoint{Name: s.Name, Epoch: c.Epoch,
			Height: c.Height, StateRoot: c.Root})
		if err != nil {
			return nil, err
		}
		out = append(out, &apiv1.Certificate{Point: point, Signature: signature, Proof: c.Proof, First: c.First})
	}

	return out, nil
}

// FirstGenesis implements api.Peers.
func (s Source) FirstGenesis(context.Context) ([]byte, error) {
	c, ok := s.Driver.(consensus.Certifier)
	if !ok {
		return nil, fmt.Errorf("%w: this node has no certificates", consensus.ErrNoSnapshot)
	}
	return c.FirstGenesis()
}

// AtReset implements api.Peers.
func (s Source) AtReset(_ context.Context, epoch uint64) ([]byte, error) {
	if s.States == nil {
		return nil, fmt.Errorf("%w: this node keeps no states at resets", consensus.ErrNoSnapshot)
	}
	return s.States.AtReset(epoch)
}

// ResetChunk implements api.Peers.
func (s Source) ResetChunk(_ context.Context, hash []byte, index uint32) ([]byte, error) {
	if s.States == nil {
		return nil, fmt.Errorf("%w: this node keeps no states at resets", consensus.ErrNoSnapshot)
	}
	return s.States.ResetChunk(hash, index)
}

// LightBlock implements api.Peers.
func (s Source) LightBlock(ctx context.Context, height uint64) (block, validators []byte, err error) {
	c, ok := s.Driver.(consensus.Certifier)
	if !ok {
		return nil, nil, fmt.Errorf("%w: the consensus of this node signs no blocks", consensus.ErrNoSnapshot)
	}
	return c.LightBlock(ctx, height)
}
