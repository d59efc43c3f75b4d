package sdk

import (
	"context"
	"errors"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/plugin/wire"
	pluginv1 "github.com/coppice-go/coppice/proto/coppice/plugin/v1"
)

// errLacks means that the node has called what Describe did not offer.
var errLacks = errors.New("the sink does not have this method")

func (s *server) Limits(ctx context.Context, _ *pluginv1.LimitsRequest) (*pluginv1.LimitsResponse, error) {
	sink, err := s.get()
	if err != nil {
		return nil, err
	}
	l, ok := sink.(streams.Limiter)
	if !ok {
		return nil, errLacks
	}
	limits, err := l.Limits(ctx)

	return &pluginv1.LimitsResponse{Limits: wire.FromLimits(limits), Failure: wire.Failure(err)}, nil
}

func (s *server) Check(ctx context.Context, _ *pluginv1.CheckRequest) (*pluginv1.CheckResponse, error) {
	sink, err := s.get()
	if err != nil {
		return nil, err
	}
	c, ok := sink.(streams.Checker)
	if !ok {
		return nil, errLacks
	}
	notes, err := c.Check(ctx)

	return &pluginv1.CheckResponse{Notes: notes, Failure: wire.Failure(err)}, nil
}

func (s *server) Rewind(ctx context.Context, r *pluginv1.RewindRequest) (*pluginv1.RewindResponse, error) {
	sink, err := s.get()
	if err != nil {
		return nil, err
	}
	w, ok := sink.(streams.Rewinder)
	if !ok {
		return nil, errLacks
	}
	c, err := w.Rewind(ctx, wire.Position(r.To))

	return &pluginv1.RewindResponse{Cursor: wire.FromCursor(c), Failure: wire.Failure(err)}, nil
}

func (s *server) Forget(ctx context.Context, _ *pluginv1.ForgetRequest) (*pluginv1.ForgetResponse, error) {
	sink, err := s.get()
	if err != nil {
		return nil, err
	}
	f, ok := sink.(streams.Forgetter)
	if !ok {
		return nil, errLacks
	}

	return &pluginv1.ForgetResponse{Failure: wire.Failure(f.Forget(ctx))}, nil
}
