package api

import (
	"context"
	"errors"
	"net/http"

	"connectrpc.com/connect"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
)

// Snapshots is the part of a node that SnapshotService needs. All methods are safe for concurrent
// use, and return ErrUnavailable while the node is down.
type Snapshots interface {
	// Create takes a snapshot and returns it. If the newest snapshot already has the same state,
	// Create returns that one and fresh is false.
	Create(ctx context.Context) (s *apiv1.Snapshot, fresh bool, err error)

	// Offer makes a snapshot of the present state for nodes that join, and returns it when peers
	// are offered it. If the node's consensus carries no snapshots, the error is ErrNoStateSync.
	Offer(ctx context.Context) (*apiv1.OfferSnapshotResponse, error)

	// Adopt offers a snapshot that another process has put into the home, and returns it when peers
	// are offered it. Errors are ErrNoStateSync, and ErrNotAdopted for a snapshot that is not
	// whole, of another chain, or too old to be kept.
	Adopt(ctx context.Context, staged string) (*apiv1.AdoptSnapshotResponse, error)

	// List returns all snapshots, the one with the oldest state first.
	List(ctx context.Context) ([]*apiv1.Snapshot, error)

	// Retention returns which records the log keeps, and what makes it keep them.
	Retention(ctx context.Context) (*apiv1.RetentionResponse, error)

	// Backup makes a backup and calls send with its parts, in order.
	Backup(ctx context.Context, send func(*apiv1.BackupResponse) error) error
}

// ErrNoStateSync: the consensus of the node does not carry snapshots to other nodes.
var ErrNoStateSync = errors.New("the consensus of this node has no state sync, so no node can join by a snapshot")

// ErrNotAdopted: the node does not offer the snapshot that it was given.
var ErrNotAdopted = errors.New("snapshot not taken")

// SnapshotHandler returns the handler of SnapshotService over s, and the path prefix to mount it
// at. Every call requires the admin token.
func SnapshotHandler(s Snapshots, tokens Tokens) (string, http.Handler) {
	return apiv1connect.NewSnapshotServiceHandler(&snapshotService{s},
		knownEnums(), connect.WithReadMaxBytes(maxAdminBody),
		connect.WithInterceptors(needsAccess{tokens, AdminAccess}))
}

type snapshotService struct{ s Snapshots }

func (s *snapshotService) CreateSnapshot(ctx context.Context, _ *connect.Request[apiv1.CreateSnapshotRequest]) (
	*connect.Response[apiv1.CreateSnapshotResponse], error) {
	made, fresh, err := s.s.Create(ctx)
	if err != nil {
		return nil, wireError(ctx, err)
	}
	return connect.NewResponse(&apiv1.CreateSnapshotResponse{Snapshot: made, Fresh: fresh}), nil
}

func (s *snapshotService) OfferSnapshot(ctx context.Context, _ *connect.Request[apiv1.OfferSnapshotRequest]) (
	*connect.Response[apiv1.OfferSnapshotResponse], error) {
	offered, err := s.s.Offer(ctx)
	if err != nil {
		return nil, wireError(ctx, err)
	}
	return connect.NewResponse(offered), nil
}

func (s *snapshotService) AdoptSnapshot(ctx context.Context, req *connect.Request[apiv1.AdoptSnapshotRequest]) (
	*connect.Response[apiv1.AdoptSnapshotResponse], error) {
	adopted, err := s.s.Adopt(ctx, req.Msg.Staged)
	if err != nil {
		return nil, wireError(ctx, err)
	}
	return connect.NewResponse(adopted), nil
}

func (s *snapshotService) ListSnapshots(ctx context.Context, _ *connect.Request[apiv1.ListSnapshotsRequest]) (
	*connect.Response[apiv1.ListSnapshotsResponse], error) {
	list, err := s.s.List(ctx)
	if err != nil {
		return nil, wireError(ctx, err)
	}
	return connect.NewResponse(&apiv1.ListSnapshotsResponse{Snapshots: list}), nil
}

func (s *snapshotService) Retention(ctx context.Context,
	_ *connect.Request[apiv1.RetentionRequest]) (*connect.Response[apiv1.RetentionResponse], error) {
	r, err := s.s.Retention(ctx)
	if err != nil {
		return nil, wireError(ctx, err)
	}
	return connect.NewResponse(r), nil
}

func (s *snapshotService) Backup(ctx context.Context, _ *connect.Request[apiv1.BackupRequest],
	out *connect.ServerStream[apiv1.BackupResponse]) error {
	if err := s.s.Backup(ctx, out.Send); err != nil {
		return wireError(ctx, err)
	}
	return nil
}
