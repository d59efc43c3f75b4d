package plugin

import (
	"context"
	"errors"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/plugin/wire"
	pluginv1 "github.com/coppice-go/coppice/proto/coppice/plugin/v1"
)

// Limits asks the plugin's sink. A payload is never longer than a part on the way to the plugin.
func (s *sink) Limits(ctx context.Context) (streams.Limits, error) {
	r, err := s.process(ctx)
	if err != nil {
		return streams.Limits{}, err
	}

	limits := wire.Limits(r.about.Limits)
	if r.about.CanLimit {
		answer, err := r.service.Limits(ctx, &pluginv1.LimitsRequest{})
		if err := r.answered(ctx, err, answer.GetFailure()); err != nil {
			return streams.Limits{}, err
		}
		limits = wire.Limits(answer.Limits)
	}
	limits.Payload = min(limits.PayloadLimit(), wire.MaxPayload)

	return limits, nil
}

// Check starts the plugin, and asks its sink if that can tell.
func (s *sink) Check(ctx context.Context) ([]string, error) {
	r, err := s.process(ctx)
	if err != nil || !r.about.CanCheck {
		return nil, err
	}
	answer, err := r.service.Check(ctx, &pluginv1.CheckRequest{})

	return answer.GetNotes(), r.answered(ctx, err, answer.GetFailure())
}

// errLacks means that the plugin's sink does not have a method.
var errLacks = streams.Fail(streams.Misconfigured, errors.New("the plugin's sink cannot do that"))

// Rewind asks the plugin's sink.
func (s *sink) Rewind(ctx context.Context, to *streams.Position) (streams.Cursor, error) {
	r, err := s.process(ctx)
	if err != nil {
		return streams.Cursor{}, err
	}
	if !r.about.CanRewind {
		return streams.Cursor{}, errLacks
	}
	answer, err := r.service.Rewind(ctx, &pluginv1.RewindRequest{To: wire.FromPosition(to)})

	return wire.Cursor(answer.GetCursor()), r.answered(ctx, err, answer.GetFailure())
}

// Forget asks the plugin's sink.
func (s *sink) Forget(ctx context.Context) error {
	r, err := s.process(ctx)
	if err != nil {
		return err
	}
	if !r.about.CanForget {
		return errLacks
	}
	answer, err := r.service.Forget(ctx, &pluginv1.ForgetRequest{})

	return r.answered(ctx, err, answer.GetFailure())
}
