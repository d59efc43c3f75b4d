package client

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// The calls in this file make one attempt. The process answers them whatever the node in it is
// doing, so an error means that the process is not there.

// Tree returns the node's supervision tree as it is now.
func (c *Client) Tree(ctx context.Context) (*apiv1.TreeResponse, error) {
	return once(ctx, c, c.attempt, &apiv1.TreeRequest{},
		func(v *services, ctx context.Context,
			r *connect.Request[apiv1.TreeRequest]) (*connect.Response[apiv1.TreeResponse], error) {
			return v.admin.Tree(ctx, r)
		})
}

// Spec returns the node's supervision tree as it was specified.
func (c *Client) Spec(ctx context.Context) (*apiv1.SpecResponse, error) {
	return once(ctx, c, c.attempt, &apiv1.SpecRequest{},
		func(v *services, ctx context.Context,
			r *connect.Request[apiv1.SpecRequest]) (*connect.Response[apiv1.SpecResponse], error) {
			return v.admin.Spec(ctx, r)
		})
}

// HostStatus returns facts about the process around the node.
func (c *Client) HostStatus(ctx context.Context) (*apiv1.HostStatusResponse, error) {
	return once(ctx, c, c.attempt, &apiv1.HostStatusRequest{},
		func(v *services, ctx context.Context,
			r *connect.Request[apiv1.HostStatusRequest]) (*connect.Response[apiv1.HostStatusResponse], error) {
			return v.admin.HostStatus(ctx, r)
		})
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
	return once(ctx, c, c.attempt, req,
		func(v *services, ctx context.Context,
			r *connect.Request[apiv1.KillRequest]) (*connect.Response[apiv1.KillResponse], error) {
			return v.admin.Kill(ctx, r)
		})
}

// Inspect returns one part of a report about the node's process, whose names InspectResponse.parts
// lists; an empty name returns only that list. It requires WithToken.
func (c *Client) Inspect(ctx context.Context, part string) (*apiv1.InspectResponse, error) {
	return once(ctx, c, inspectTime, &apiv1.InspectRequest{Part: part},
		func(v *services, ctx context.Context,
			r *connect.Request[apiv1.InspectRequest]) (*connect.Response[apiv1.InspectResponse], error) {
			return v.admin.Inspect(ctx, r)
		})
}

// inspectTime is how long one call of Inspect may take: the node bounds the time in which it makes
// a part, but not the network.
const inspectTime = time.Minute

// Stop makes the node's process stop in order and exit 0. It requires WithToken. It returns once
// the stop has begun, and does not wait for its end.
func (c *Client) Stop(ctx context.Context) (*apiv1.StopResponse, error) {
	return once(ctx, c, c.attempt, &apiv1.StopRequest{},
		func(v *services, ctx context.Context,
			r *connect.Request[apiv1.StopRequest]) (*connect.Response[apiv1.StopResponse], error) {
			return v.admin.Stop(ctx, r)
		})
}
