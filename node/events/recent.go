package events

import (
	"context"
	"encoding/json"
	"io"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/node/api"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// Recent writes the newest live events that are kept, the oldest first, one JSON object a line: the
// events of the tree, and the changes of readiness.
func (s *Source) Recent(ctx context.Context, w io.Writer) error {
	end := s.feed.end()
	place := end - min(end, uint64(s.Backlog))
	enc := json.NewEncoder(w)
	batch := make([]engines.Event, 0, liveBatch)

	for place < end {
		var missed uint64
		batch, missed, place = s.feed.read(place, batch[:0])
		if missed > 0 {
			if err := enc.Encode(client.Event{Dropped: missed}); err != nil {
				return err
			}
		}

		for _, e := range batch {
			if err := enc.Encode(liveEvent(e)); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}

	return nil
}

// liveEvent returns a live event in the form in which clients have it.
func liveEvent(e engines.Event) client.Event {
	switch e := e.(type) {
	case engines.TreeChanged:
		if lost, ok := e.Event.(supervisor.EventsDropped); ok {
			return client.Event{Dropped: lost.Count}
		}
		return client.Event{Tree: api.TreeEventOf(e.Event)}
	case engines.ReadinessChanged:
		return client.Event{Ready: api.ReadinessEventOf(e)}
	case engines.ProcessChanged:
		return client.Event{Process: api.ProcessOf(e)}
	}
	return client.Event{Tree: &apiv1.TreeEvent{Kind: "unknown"}}
}
