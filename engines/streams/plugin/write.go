package plugin

import (
	"context"
	"errors"
	"io"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/plugin/wire"
	pluginv1 "github.com/coppice-go/coppice/proto/coppice/plugin/v1"
)

// Write hands the delivery to the plugin, event by event, and its credit back. If the call breaks
// off, the process is killed: nobody knows what it does with the rest.
func (s *sink) Write(ctx context.Context, d streams.Delivery) error {
	r, err := s.process(ctx)
	if err != nil {
		return err
	}
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := r.service.Write(call)
	if err != nil {
		return r.answered(ctx, err, nil)
	}

	// The answers come beside the events.
	type result struct {
		failure error
		broken  error
	}
	results := make(chan result, 1)
	go func() {
		for {
			m, err := stream.Recv()
			if err != nil {
				results <- result{broken: err}
				cancel() // what still waits for credit gets none
				return
			}
			if m.Credit > 0 {
				d.Credit(int(m.Credit))
			}
			if m.Done {
				results <- result{failure: wire.Err(m.Failure)}
				cancel()
				return
			}
		}
	}()

	q := newQueue()
	go q.fill(call, d)
	cause := s.send(q, stream.Send)
	if cause == nil {
		_ = stream.CloseSend() // its error comes with the result
	}
	got := <-results
	<-q.filled // nothing uses the delivery any more

	switch {
	case ctx.Err() != nil:
		err := context.Cause(ctx)
		r.kill(errors.Join(errors.New("a call was broken off"), err))
		return err
	case got.broken != nil:
		return r.answered(ctx, got.broken, nil)
	case cause != nil && got.failure != nil && !errors.Is(cause, context.Canceled):
		return cause // the node's own; the plugin only heard that the delivery is abandoned
	}

	return got.failure
}

// send sends the events of a delivery, those that are ready together. It returns the error of the
// delivery, of which it tells the plugin, or nil at the end.
func (s *sink) send(q *queue, send func(*pluginv1.WriteRequest) error) error {
	for {
		items, cause := q.take()
		if len(items) > 0 && send(&pluginv1.WriteRequest{Items: items}) != nil {
			q.stop()
			return nil // the result says why
		}
		if errors.Is(cause, io.EOF) {
			return nil
		}
		if cause != nil {
			_ = send(&pluginv1.WriteRequest{Abandoned: true}) // the result tells if it has ended before
			return cause
		}
	}
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }
