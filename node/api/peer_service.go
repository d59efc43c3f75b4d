package api

import (
	"context"

	"connectrpc.com/connect"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
)

// MaxCertificates bounds the bytes of the certificates in one answer, apart from the first one,
// which an answer always has room for.
const MaxCertificates = 1 << 20

// Peers is the part of a node that PeerService needs. All methods are safe for concurrent use.
type Peers interface {
	// Standing returns where the committed chain stands, signed if the node has an agent. It
	// returns ErrUnavailable while the state is not open.
	Standing(ctx context.Context) (*apiv1.StandingResponse, error)

	// Certificates returns the certificates of the resets of the epochs from the given one on: at
	// most MaxCertificates bytes, but at least one if there is any.
	Certificates(ctx context.Context, from uint64) ([]*apiv1.Certificate, error)

	// FirstGenesis returns the genesis of epoch 0 of the consensus.
	FirstGenesis(ctx context.Context) ([]byte, error)

	// AtReset returns the metadata of the state at the reset that ended an epoch. It returns
	// consensus.ErrNoSnapshot if the node does not have that state.
	AtReset(ctx context.Context, epoch uint64) ([]byte, error)

	// ResetChunk returns a chunk of the state whose metadata has that SHA-256. It returns
	// consensus.ErrNoSnapshot if the node does not have it.
	ResetChunk(ctx context.Context, hash []byte, index uint32) ([]byte, error)

	// LightBlock returns a block and the validators of its height, as consensus.Peer does.
	LightBlock(ctx context.Context, height uint64) (block, validators []byte, err error)
}

// PeerRoutes returns the routes of PeerService over p. They are not behind the gate: a node whose
// consensus is down, or whose core restarts, still tells its peers how an epoch has ended.
func PeerRoutes(p Peers) []Route {
	path, handler := apiv1connect.NewPeerServiceHandler(&peerService{p}, knownEnums(),
		connect.WithReadMaxBytes(maxAdminBody))
	return []Route{{path, handler, Work}}
}

type peerService struct{ p Peers }

func (s *peerService) Standing(ctx context.Context, _ *connect.Request[apiv1.StandingRequest]) (
	*connect.Response[apiv1.StandingResponse], error) {
	at, err := s.p.Standing(ctx)
	if err != nil {
		return nil, wireError(ctx, err)
	}
	return connect.NewResponse(at), nil
}

func (s *peerService) Certificates(ctx context.Context, req *connect.Request[apiv1.CertificatesRequest]) (
	*connect.Response[apiv1.CertificatesResponse], error) {
	list, err := s.p.Certificates(ctx, req.Msg.From)
	if err != nil {
		return nil, wireError(ctx, err)
	}
	return connect.NewResponse(&apiv1.CertificatesResponse{Certificates: list}), nil
}

func (s *peerService) FirstGenesis(ctx context.Context, _ *connect.Request[apiv1.FirstGenesisRequest]) (
	*connect.Response[apiv1.FirstGenesisResponse], error) {
	genesis, err := s.p.FirstGenesis(ctx)
	if err != nil {
		return nil, wireError(ctx, err)
	}
	return connect.NewResponse(&apiv1.FirstGenesisResponse{Genesis: genesis}), nil
}

func (s *peerService) AtReset(ctx context.Context, req *connect.Request[apiv1.AtResetRequest]) (
	*connect.Response[apiv1.AtResetResponse], error) {
	metadata, err := s.p.AtReset(ctx, req.Msg.Epoch)
	if err != nil {
		return nil, wireError(ctx, err)
	}
	return connect.NewResponse(&apiv1.AtResetResponse{Metadata: metadata}), nil
}

func (s *peerService) ResetChunk(ctx context.Context, req *connect.Request[apiv1.ResetChunkRequest]) (
	*connect.Response[apiv1.ResetChunkResponse], error) {
	chunk, err := s.p.ResetChunk(ctx, req.Msg.Hash, req.Msg.Index)
	if err != nil {
		return nil, wireError(ctx, err)
	}
	return connect.NewResponse(&apiv1.ResetChunkResponse{Chunk: chunk}), nil
}

func (s *peerService) LightBlock(ctx context.Context, req *connect.Request[apiv1.LightBlockRequest]) (
	*connect.Response[apiv1.LightBlockResponse], error) {
	block, validators, err := s.p.LightBlock(ctx, req.Msg.Height)
	if err != nil {
		return nil, wireError(ctx, err)
	}
	return connect.NewResponse(&apiv1.LightBlockResponse{Block: block, Validators: validators}), nil
}
