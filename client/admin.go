package client

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
)

// The calls in this file make one attempt. The process answers them whatever the node in it is
// doing, so an error means that the process is not there.

// Tree returns the node's supervision tree as it is now.
func (c *Client) Tree(ctx context.Context) (*apiv1.TreeResponse, error) {
	return once(ctx, c, c.attempt, &apiv1.TreeRequest{}, admin(apiv1connect.AdminServiceClient.Tree))
}

// Spec returns the node's supervision tree as it was specified.
func (c *Client) Spec(ctx context.Context) (*apiv1.SpecResponse, error) {
	return once(ctx, c, c.attempt, &apiv1.SpecRequest{}, admin(apiv1connect.AdminServiceClient.Spec))
}

// HostStatus returns facts about the process around the node.
func (c *Client) HostStatus(ctx context.Context) (*apiv1.HostStatusResponse, error) {
	return once(ctx, c, c.attempt, &apiv1.HostStatusRequest{}, admin(apiv1connect.AdminServiceClient.HostStatus))
}

// Kill makes one child of the tree fail; a last element "*" of the path selects any living child
// there. It requires WithToken. It returns once the child has failed, without waiting for the
// restart. Killing the root usually ends the connection instead. releaseAfter is for HOW_HANG; zero
// means the node's default.
func (c *Client) Kill(ctx context.Context, path string, how apiv1.How,
	releaseAfter time.Duration) (*apiv1.KillResponse, error) {
	req := &apiv1.KillRequest{Path: path, How: how}
	if releaseAfter != 0 {
		req.ReleaseAfter = durationpb.New(releaseAfter)
	}
	return once(ctx, c, c.attempt, req, admin(apiv1connect.AdminServiceClient.Kill))
}

// Inspect returns one part of a report about the node's process, whose names InspectResponse.parts
// lists; an empty name returns only that list. It requires WithToken.
func (c *Client) Inspect(ctx context.Context, part string) (*apiv1.InspectResponse, error) {
	return once(ctx, c, inspectTime, &apiv1.InspectRequest{Part: part}, admin(apiv1connect.AdminServiceClient.Inspect))
}

// inspectTime is how long one call of Inspect may take: the node bounds the time in which it makes
// a part, but not the network.
const inspectTime = time.Minute

// Stop makes the node's process stop in order and exit 0. It requires WithToken. It returns once
// the stop has begun, and does not wait for its end.
func (c *Client) Stop(ctx context.Context) (*apiv1.StopResponse, error) {
	return once(ctx, c, c.attempt, &apiv1.StopRequest{}, admin(apiv1connect.AdminServiceClient.Stop))
}
