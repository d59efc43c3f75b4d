package client

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
)

// Streams returns the streams of the node, by name; with a name only that one. It requires the
// submit token. Like the other calls for streams it makes one attempt, limited only by ctx.
func (c *Client) Streams(ctx context.Context, name string) ([]*apiv1.Stream, error) {
	res, err := streamCall(ctx, c, apiv1connect.StreamsServiceClient.ListStreams,
		&apiv1.ListStreamsRequest{Name: name})
	return res.GetStreams(), err
}

// WaitStream waits until the sink of a stream has a block, for at most the given time.
func (c *Client) WaitStream(ctx context.Context, name string, at *apiv1.StreamPosition, most time.Duration) error {
	_, err := streamCall(ctx, c, apiv1connect.StreamsServiceClient.WaitStream,
		&apiv1.WaitStreamRequest{Name: name, At: at, Timeout: durationpb.New(most)})
	return err
}

// AwaitSink waits until the sink of a stream has a block, also over restarts of the node. If ctx
// ends first, the error says where the sink stood.
func (c *Client) AwaitSink(ctx context.Context, name string, at *apiv1.StreamPosition) error {
	b := c.backoff()
	var said error // by the node, while there was time
	for {
		err := c.WaitStream(ctx, name, at, max(patience(ctx, c.attempt), time.Millisecond))
		switch {
		case err == nil:
			return nil
		case ctx.Err() == nil && !lost(ctx, err):
			return err
		case ctx.Err() == nil:
			said = err
		}
		if ended := b.pause(ctx); ended != nil {
			return errors.Join(said, ended)
		}
	}
}

// EditStream gives a stream another definition. It requires the admin token.
func (c *Client) EditStream(ctx context.Context, req *apiv1.EditStreamRequest) (notes []string, err error) {
	res, err := streamCall(ctx, c, apiv1connect.StreamsServiceClient.EditStream, req)
	return res.GetNotes(), err
}

// ExportStream returns the definition of a stream. It requires the admin token.
func (c *Client) ExportStream(ctx context.Context, name string) ([]byte, error) {
	res, err := streamCall(ctx, c, apiv1connect.StreamsServiceClient.ExportStream,
		&apiv1.ExportStreamRequest{Name: name})
	return res.GetDefinition(), err
}

// ReplayStream writes blocks of the log into another sink. It requires the admin token.
func (c *Client) ReplayStream(ctx context.Context, req *apiv1.ReplayStreamRequest) (
	*apiv1.ReplayStreamResponse, error) {
	return streamCall(ctx, c, apiv1connect.StreamsServiceClient.ReplayStream, req)
}

// ParkedEvents returns the events that a stream has put aside, oldest first. It requires the admin
// token.
func (c *Client) ParkedEvents(ctx context.Context, name string) ([]*apiv1.ParkedEvent, error) {
	res, err := streamCall(ctx, c, apiv1connect.StreamsServiceClient.ListParked,
		&apiv1.ListParkedRequest{Name: name})
	return res.GetEvents(), err
}

// PreviewStream returns the events of a block as a stream delivers them, in JSON.
func (c *Client) PreviewStream(ctx context.Context, name string, at *apiv1.StreamPosition) ([][]byte, error) {
	res, err := streamCall(ctx, c, apiv1connect.StreamsServiceClient.PreviewStream,
		&apiv1.PreviewStreamRequest{Name: name, At: at})
	return res.GetEvents(), err
}

// VerifyStream compares what the sink of a stream holds with what the log delivers.
func (c *Client) VerifyStream(ctx context.Context, req *apiv1.VerifyStreamRequest) (
	*apiv1.VerifyStreamResponse, error) {
	return streamCall(ctx, c, apiv1connect.StreamsServiceClient.VerifyStream, req)
}

// AddStream makes a stream of a definition. It requires the admin token.
func (c *Client) AddStream(ctx context.Context, req *apiv1.AddStreamRequest) (notes []string, err error) {
	res, err := streamCall(ctx, c, apiv1connect.StreamsServiceClient.AddStream, req)
	return res.GetNotes(), err
}

// ActOnStream changes a stream. It requires the admin token.
func (c *Client) ActOnStream(ctx context.Context, req *apiv1.ActOnStreamRequest) error {
	_, err := streamCall(ctx, c, apiv1connect.StreamsServiceClient.ActOnStream, req)
	return err
}

// streamCall makes one call of StreamsService.
func streamCall[Q, A any](ctx context.Context, c *Client,
	f func(apiv1connect.StreamsServiceClient, context.Context, *connect.Request[Q]) (*connect.Response[A], error),
	q *Q) (*A, error) {
	s, err := c.services()
	if err != nil {
		return nil, err
	}
	res, err := f(s.streams, ctx, connect.NewRequest(q))
	if err != nil {
		return nil, err
	}
	return res.Msg, nil
}
