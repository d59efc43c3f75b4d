package peers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
)

const (
	// askTime bounds one question. A peer that hangs must not keep a node from asking the others.
	askTime = 3 * time.Second

	// chunkTime bounds the transfer of a part of a state, which has 8 MiB at most.
	chunkTime = 30 * time.Second

	// maxAnswer bounds the bytes of an answer. One certificate of a chain with 1,000 validators has
	// about 1 MB.
	maxAnswer = 16 << 20
)

// ErrAnswer is the error for an answer of a peer that has not the form that was asked for, or is of
// another chain.
var ErrAnswer = errors.New("answer of a peer")

// Peer asks another node of the chain. It implements consensus.Peer.
type Peer struct {
	address string
	token   string
	name    string // of the chain
	agents  []chain.Agent
	service apiv1connect.PeerServiceClient
}

var _ consensus.Peer = (*Peer)(nil)

// newPeer returns the peer at an address. It does not connect yet.
func newPeer(address, token string, client *http.Client, name string, agents []chain.Agent) *Peer {
	base := address
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	return &Peer{address: address, token: token, name: name, agents: agents,
		service: apiv1connect.NewPeerServiceClient(client, base, connect.WithReadMaxBytes(maxAnswer),
			connect.WithAcceptCompression("gzip", nil, nil))}
}

// String returns the peer's address.
func (p *Peer) String() string { return p.address }

// Standing implements consensus.Peer.
func (p *Peer) Standing(ctx context.Context) (at consensus.PeerStanding, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	res, err := p.service.Standing(ctx, request(p, &apiv1.StandingRequest{}))
	if err != nil {
		return at, err
	}

	m := new(apiv1.Standing)
	if err := proto.Unmarshal(res.Msg.Standing, m); err != nil {
		return at, fmt.Errorf("%w: its standing: %w", ErrAnswer, err)
	}
	if m.Name != p.name {
		return at, p.foreign(m.Name)
	}

	at = consensus.PeerStanding{Name: m.Name, Epoch: m.Epoch, Height: m.Height, BlockHash: m.BlockHash,
		AppHash: m.AppHash}
	at.Agent, err = verify(p.agents, standingDomain, res.Msg.Standing, res.Msg.Signature)

	return at, err
}

// Certificates implements consensus.Peer.
func (p *Peer) Certificates(ctx context.Context, from uint64) ([]consensus.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	res, err := p.service.Certificates(ctx, request(p, &apiv1.CertificatesRequest{From: from}))
	if err != nil {
		return nil, err
	}

	var out []consensus.Certificate

	for i, c := range res.Msg.Certificates {
		m := new(apiv1.ResetPoint)
		if err := proto.Unmarshal(c.Point, m); err != nil {
			return nil, fmt.Errorf("%w: the point of a reset: %w", ErrAnswer, err)
		}

		switch {
		case m.Name != p.name:
			return nil, p.foreign(m.Name)
		case m.Epoch != from+uint64(i):
			return nil, fmt.Errorf("%w: a certificate of epoch %d, want %d", ErrAnswer, m.Epoch, from+uint64(i))
		}

		agent, err := verify(p.agents, pointDomain, c.Point, c.Signature)
		if err != nil {
			return nil, err
		}
		out = append(out, consensus.Certificate{Epoch: m.Epoch, Height: m.Height, Root: m.StateRoot, Proof: c.Proof,
			First: c.First, Agent: agent})
	}

	return out, nil
}

// FirstGenesis implements consensus.Peer.
func (p *Peer) FirstGenesis(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, chunkTime)
	defer cancel()
	res, err := p.service.FirstGenesis(ctx, request(p, &apiv1.FirstGenesisRequest{}))
	if err != nil {
		return nil, noSnapshot(err)
	}
	return res.Msg.Genesis, nil
}

// LightBlock implements consensus.Peer.
func (p *Peer) LightBlock(ctx context.Context, height uint64) (block, validators []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	res, err := p.service.LightBlock(ctx, request(p, &apiv1.LightBlockRequest{Height: height}))
	if err != nil {
		return nil, nil, noSnapshot(err)
	}
	return res.Msg.Block, res.Msg.Validators, nil
}

// AtReset implements consensus.Peer.
func (p *Peer) AtReset(ctx context.Context, epoch uint64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, chunkTime) // the metadata of a large state has megabytes
	defer cancel()
	res, err := p.service.AtReset(ctx, request(p, &apiv1.AtResetRequest{Epoch: epoch}))
	if err != nil {
		return nil, noSnapshot(err)
	}
	return res.Msg.Metadata, nil
}

// ResetChunk implements consensus.Peer.
func (p *Peer) ResetChunk(ctx context.Context, hash []byte, index uint32) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, chunkTime)
	defer cancel()
	res, err := p.service.ResetChunk(ctx, request(p, &apiv1.ResetChunkRequest{Hash: hash, Index: index}))
	if err != nil {
		return nil, noSnapshot(err)
	}
	return res.Msg.Chunk, nil
}

// noSnapshot returns err as consensus.ErrNoSnapshot if it says that the peer does not have a state.
func noSnapshot(err error) error {
	if connect.CodeOf(err) == connect.CodeNotFound {
		return fmt.Errorf("%w: %w", consensus.ErrNoSnapshot, err)
	}
	return err
}

func (p *Peer) foreign(name string) error {
	return fmt.Errorf("%w: it is of chain %.50q, this node of %q", ErrAnswer, name, p.name)
}

// request returns a request with the token of the peer.
func request[Q any](p *Peer, q *Q) *connect.Request[Q] {
	r := connect.NewRequest(q)
	if p.token != "" {
		r.Header().Set("Authorization", "Bearer "+p.token)
	}
	return r
}
