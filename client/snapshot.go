package client

import (
	"context"

	"connectrpc.com/connect"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// CreateSnapshot makes the node take a snapshot of its state, and returns it when it is verified
// and durable. If the newest snapshot already has the same state, it returns that one and fresh is
// false. The call requires the admin token. It makes one attempt, limited only by ctx.
func (c *Client) CreateSnapshot(ctx context.Context) (s *apiv1.Snapshot, fresh bool, err error) {
	to, err := c.services()
	if err != nil {
		return nil, false, err
	}
	res, err := to.snapshot.CreateSnapshot(ctx, connect.NewRequest(&apiv1.CreateSnapshotRequest{}))
	if err != nil {
		return nil, false, err
	}

	return res.Msg.Snapshot, res.Msg.Fresh, nil
}

// OfferSnapshot makes the node take a snapshot of its present state for nodes that join by state
// sync, and returns it when peers are offered it. It requires the admin token. It makes one
// attempt, limited only by ctx.
func (c *Client) OfferSnapshot(ctx context.Context) (*apiv1.OfferSnapshotResponse, error) {
	to, err := c.services()
	if err != nil {
		return nil, err
	}
	res, err := to.snapshot.OfferSnapshot(ctx, connect.NewRequest(&apiv1.OfferSnapshotRequest{}))
	if err != nil {
		return nil, err
	}

	return res.Msg, nil
}

// AdoptSnapshot makes the node offer a snapshot to nodes that join, which this process has put into
// the node's home under the name staged. It requires the admin token. It makes one attempt, limited
// only by ctx.
func (c *Client) AdoptSnapshot(ctx context.Context, staged string) (*apiv1.AdoptSnapshotResponse, error) {
	s, err := c.services()
	if err != nil {
		return nil, err
	}
	r, err := s.snapshot.AdoptSnapshot(ctx, connect.NewRequest(&apiv1.AdoptSnapshotRequest{Staged: staged}))
	if err != nil {
		return nil, err
	}
	return r.Msg, nil
}

// Snapshots returns the node's snapshots, the oldest state first. It requires the admin token.
func (c *Client) Snapshots(ctx context.Context) ([]*apiv1.Snapshot, error) {
	res, err := again(ctx, c, c.attempt, &apiv1.ListSnapshotsRequest{},
		func(s *services, ctx context.Context, q *connect.Request[apiv1.ListSnapshotsRequest]) (
			*connect.Response[apiv1.ListSnapshotsResponse], error) {
			return s.snapshot.ListSnapshots(ctx, q)
		})

	if err != nil {
		return nil, err
	}
	return res.Snapshots, nil
}

// Retention returns which records the node's log keeps, and what makes it keep them. It requires
// the admin token.
func (c *Client) Retention(ctx context.Context) (*apiv1.RetentionResponse, error) {
	return again(ctx, c, c.attempt, &apiv1.RetentionRequest{},
		func(s *services, ctx context.Context,
			q *connect.Request[apiv1.RetentionRequest]) (*connect.Response[apiv1.RetentionResponse], error) {
			return s.snapshot.Retention(ctx, q)
		})
}

// Backup makes a backup of the running node, and calls take with its parts, in order. The backup
// includes everything that was acknowledged before the call. The call requires the admin token. It
// makes one attempt, limited only by ctx.
func (c *Client) Backup(ctx context.Context, take func(*apiv1.BackupResponse) error) error {
	to, err := c.services()
	if err != nil {
		return err
	}

	req := connect.NewRequest(&apiv1.BackupRequest{})
	c.sign(req.Header())
	stream, err := to.snapshot.Backup(ctx, req)
	if err != nil {
		return err
	}
	defer stream.Close()

	for stream.Receive() {
		if err := take(stream.Msg()); err != nil {
			return err
		}
	}

	return stream.Err()
}
