package client

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"connectrpc.com/connect"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
)

// The calls in this file show what a node is doing. They make one attempt, and none waits for a
// part of the node that hangs.

// TreeDelta passes the tree to handle: first all of it, and then what has changed, at most
// perSecond times a second (0 or more than ten: ten times). It returns handle's error, ctx's cause,
// or why the stream ended. To go on, call it again; it then begins with a new snapshot.
func (c *Client) TreeDelta(ctx context.Context, perSecond uint32,
	handle func(*apiv1.TreeDeltaResponse) error) error {
	s, err := c.services()
	if err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	r := connect.NewRequest(&apiv1.TreeDeltaRequest{PerSecond: perSecond})
	c.sign(r.Header())
	stream, err := s.admin.TreeDelta(ctx, r)
	if err != nil {
		return err
	}
	defer stream.Close()

	for stream.Receive() {
		if err := handle(stream.Msg()); err != nil {
			return err
		}
	}

	if err := stream.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}

// InspectChild returns what is known of one place of the tree. It requires WithToken if the request
// wants goroutines or state.
func (c *Client) InspectChild(ctx context.Context, req *apiv1.InspectChildRequest) (*apiv1.InspectChildResponse,
	error) {
	return once(ctx, c, c.attempt, req, admin(apiv1connect.AdminServiceClient.InspectChild))
}

// History returns the newest events of a place and of what is below it.
func (c *Client) History(ctx context.Context, req *apiv1.HistoryRequest) (*apiv1.HistoryResponse, error) {
	return once(ctx, c, c.attempt, req, admin(apiv1connect.AdminServiceClient.History))
}

// Orphans returns the incarnations that still run although they were told to stop, with their
// stacks.
func (c *Client) Orphans(ctx context.Context) ([]*apiv1.Orphan, error) {
	res, err := once(ctx, c, c.attempt, &apiv1.OrphansRequest{}, admin(apiv1connect.AdminServiceClient.Orphans))
	return res.GetOrphans(), err
}

// Engines returns what the engines are doing, by name.
func (c *Client) Engines(ctx context.Context) ([]*apiv1.Engine, error) {
	res, err := once(ctx, c, c.attempt, &apiv1.EnginesRequest{}, admin(apiv1connect.AdminServiceClient.Engines))
	return res.GetEngines(), err
}

// Troubles returns what is wrong with the node, the gravest first.
func (c *Client) Troubles(ctx context.Context) ([]*apiv1.Trouble, error) {
	res, err := once(ctx, c, c.attempt, &apiv1.TroublesRequest{}, admin(apiv1connect.AdminServiceClient.Troubles))
	return res.GetTroubles(), err
}

// Blocks returns at most count committed blocks, the newest first, from a height (0: the last one)
// downwards.
func (c *Client) Blocks(ctx context.Context, from uint64, count uint32) ([]*apiv1.BlockInfo, error) {
	res, err := once(ctx, c, c.attempt, &apiv1.BlocksRequest{From: from, Count: count},
		node(apiv1connect.NodeServiceClient.Blocks))
	return res.GetBlocks(), err
}

// Pool returns figures of the pool, and at most count of its oldest transactions.
func (c *Client) Pool(ctx context.Context, count uint32) (*apiv1.PoolResponse, error) {
	return once(ctx, c, c.attempt, &apiv1.PoolRequest{Count: count}, node(apiv1connect.NodeServiceClient.Pool))
}

// Peers returns what the consensus knows of its network.
func (c *Client) Peers(ctx context.Context) (*apiv1.PeersResponse, error) {
	return once(ctx, c, c.attempt, &apiv1.PeersRequest{}, node(apiv1connect.NodeServiceClient.Peers))
}

// maxMetrics bounds what Metrics reads.
const maxMetrics = 16 << 20

// Metrics returns the node's metrics in the text format of Prometheus.
func (c *Client) Metrics(ctx context.Context) ([]byte, error) {
	s, err := c.services()
	if err != nil {
		return nil, err
	}

	ctx, cancel := context.WithTimeout(ctx, c.attempt)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	c.sign(req.Header)

	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()

	data, err := io.ReadAll(io.LimitReader(res.Body, maxMetrics))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("/metrics: %s: %.200s", res.Status, data)
	}
	return data, err
}
