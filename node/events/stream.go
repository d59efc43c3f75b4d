package events

import (
	"context"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/tail"
	"github.com/coppice-go/coppice/node/api"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// liveBatch is the number of live events that are read at once.
const liveBatch = 64

// enter opens the log at the stream's cursor. For a stream that begins now, it sets the cursor to
// the newest record. A stream whose filter matches no record needs no log.
func (s *stream) enter(ctx context.Context) error {
	if !s.records {
		return nil
	}
	if err := s.log.Open(ctx); err != nil {
		return err
	}

	s.cursor, s.known = s.log.At(), true // without mu: no other goroutine has the stream yet
	return nil
}

// once sends the records up to the one that was the newest when the stream began, and then the
// cursor.
func (s *stream) once(ctx context.Context) error {
	for s.records && s.cursor < s.log.End() { // if no record comes up to there, a mark does
		it, err := s.log.Next(ctx)
		if err != nil {
			return unavailable(ctx, err)
		}
		if err := s.pass(it); err != nil {
			return err
		}
	}

	return s.emit(&apiv1.EventsResponse{}) // the cursor to continue from
}

// follow sends records and events of the tree until ctx ends or a send fails.
func (s *stream) follow(ctx context.Context, place uint64) error {
	if err := s.emit(&apiv1.EventsResponse{}); err != nil { // tells the client that the stream is live
		return err
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	pumped := make(chan struct{})
	go func() {
		defer close(pumped)
		cancel(s.pump(ctx, place))
	}()

	err := s.tail(ctx)
	cancel(err)
	<-pumped // when follow returns, send is not used any more

	return context.Cause(ctx)
}

// pump sends live events, and the cursor at each heartbeat.
func (s *stream) pump(ctx context.Context, place uint64) error {
	beat := time.NewTicker(s.source.Heartbeat)
	defer beat.Stop()

	batch := make([]engines.Event, 0, liveBatch)

	for {
		changed := s.source.feed.changed()
		for {
			var missed uint64
			batch, missed, place = s.source.feed.read(place, batch[:0])
			if missed == 0 && len(batch) == 0 {
				break
			}
			if err := s.sendLive(batch, missed); err != nil {
				return err
			}
		}

		select {
		case <-changed:
		case <-beat.C:
			if err := s.emit(&apiv1.EventsResponse{}); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *stream) sendLive(batch []engines.Event, missed uint64) error {
	dropped := func(n uint64) error {
		return s.emit(&apiv1.EventsResponse{Event: &apiv1.EventsResponse_Dropped{Dropped: &apiv1.Dropped{Count: n}}})
	}

	if missed > 0 {
		if err := dropped(missed); err != nil {
			return err
		}
	}

	for _, e := range batch {
		var err error

		switch e := e.(type) {
		case engines.TreeChanged:
			if lost, ok := e.Event.(supervisor.EventsDropped); ok { // the feed itself was too slow for the tree
				err = dropped(lost.Count)
			} else if s.chain.Match(e) {
				err = s.emit(&apiv1.EventsResponse{Event: &apiv1.EventsResponse_Tree{Tree: api.TreeEventOf(e.Event)}})
			}

		case engines.ReadinessChanged:
			if s.chain.Match(e) {
				err = s.emit(&apiv1.EventsResponse{Event: &apiv1.EventsResponse_Readiness{
					Readiness: api.ReadinessEventOf(e)}})
			}

		case engines.ProcessChanged:
			if s.chain.Match(e) {
				err = s.emit(&apiv1.EventsResponse{Event: &apiv1.EventsResponse_Process{Process: api.ProcessOf(e)}})
			}
		}

		if err != nil {
			return err
		}
	}

	return nil
}

// tail sends records until ctx ends, even if the log or the bus ends meanwhile.
func (s *stream) tail(ctx context.Context) error {
	if !s.records {
		<-ctx.Done()
		return context.Cause(ctx)
	}

	for {
		it, err := s.log.Next(ctx)
		if err != nil {
			return err
		}
		if err := s.pass(it); err != nil {
			return err
		}
	}
}

// pass takes the next item of the log. For a record, it moves the cursor to it and sends the
// record. For a mark, which carries only an index, it moves the cursor there. After a long gap it
// sends the cursor alone, for a client whose filter matches little.
func (s *stream) pass(it tail.Item) error {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.cursor, s.known = it.Index, true

	switch {
	case !it.Mark:
		return s.emitLocked(&apiv1.EventsResponse{Event: &apiv1.EventsResponse_Record{
			Record: &apiv1.LogRecord{Kind: chain.KindName(it.Kind), Record: it.Data}}})
	case it.Index-s.told >= tail.MarkEach:
		return s.emitLocked(&apiv1.EventsResponse{})
	}

	return nil
}
