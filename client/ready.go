package client

import (
	"context"
	"errors"
	"fmt"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
)

// ErrNotReady: the node answers, and is not ready. The text says why.
var ErrNotReady = errors.New("not ready")

// WaitReady waits until the node is ready, which means that it takes transactions and sees them
// committed, and returns its status. If ctx ends first, the error has ctx's cause and the reason
// why the node is not ready, and is ErrNotReady if the node answered.
func (c *Client) WaitReady(ctx context.Context) (*apiv1.StatusResponse, error) {
	return c.WatchReady(ctx, func(*apiv1.Readiness) {})
}

// WatchReady is WaitReady, and calls changed with each new reason why the node is not ready.
func (c *Client) WatchReady(ctx context.Context, changed func(*apiv1.Readiness)) (*apiv1.StatusResponse, error) {
	b := c.backoff()
	told := ""

	for {
		s, why, err := c.readyNow(ctx)
		switch {
		case err == nil && s != nil:
			return s, nil
		case err == nil:
			if text := why.State + why.Reason; text != told {
				told = text
				changed(why)
			}
			err = fmt.Errorf("%w: %s", ErrNotReady, ReadinessText(why))
		case !lost(ctx, err) && ctx.Err() == nil:
			return nil, err
		}

		if ended := b.pause(ctx); ended != nil {
			return nil, fmt.Errorf("%w; the last attempt: %w", ended, err)
		}
	}
}

// readyNow asks once. s is nil if the node is not ready, and why then says what it waits for. While
// the node's engines are down, the admin service knows the reason.
func (c *Client) readyNow(ctx context.Context) (s *apiv1.StatusResponse, why *apiv1.Readiness, err error) {
	s, err = c.Status(ctx)
	if err == nil && s.Ready {
		return s, nil, nil
	}
	if err == nil && s.Readiness != nil {
		return nil, s.Readiness, nil
	}
	if err != nil && !lost(ctx, err) {
		return nil, nil, err
	}

	h, other := c.Health(ctx)
	switch {
	case other != nil && err != nil:
		return nil, nil, err // of the call that matters
	case other != nil:
		return nil, nil, other
	case h.Ready: // it has just become ready: ask again
		return nil, &apiv1.Readiness{State: "starting", Reason: "the node is about to answer"}, nil
	case h.Readiness == nil:
		return nil, &apiv1.Readiness{State: "starting", Reason: h.Reason}, nil
	}

	return nil, h.Readiness, nil
}

// ReadinessText returns a readiness in one line, for people.
func ReadinessText(r *apiv1.Readiness) string {
	if r.GetReason() == "" {
		return r.GetState()
	}
	return r.GetState() + ": " + r.GetReason()
}

// Health returns whether the node is ready, and the reason if it is not. The admin service answers
// whatever the node is doing.
func (c *Client) Health(ctx context.Context) (*apiv1.HealthResponse, error) {
	return once(ctx, c, c.attempt, &apiv1.HealthRequest{}, admin(apiv1connect.AdminServiceClient.Health))
}
