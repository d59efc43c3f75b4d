package events

import (
	"context"
	"time"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/tail"
	"github.com/coppice-go/coppice/node/api"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/supervisor"
)

// treeBatch is how many events of the tree are taken at once.
const treeBatch = 64

// enter opens the log at the cursor, and finds out where now is. A stream whose filter matches no
// record has no need of a log.
func (s *stream) enter(ctx context.Context) error {
	if !s.records {
		return nil
	}
	if err := s.log.Open(ctx); err != nil {
		return err
	}

	s.cursor, s.known = s.log.At(), true // nobody else has the stream yet
	return nil
}

// once sends what there is now.
func (s *stream) once(ctx context.Context) error {
	for s.records && s.cursor < s.log.End() { // if nothing else comes up to there, a mark does
		it, err := s.log.Next(ctx)
		if err != nil {
			return unavailable(ctx, err)
		}
		if err := s.pass(it); err != nil {
			return err
		}
	}

	return s.emit(&apiv1.EventsResponse{}) // the cursor to go on from
}

// follow is the life of a stream that does not end by itself.
func (s *stream) follow(ctx context.Context, place uint64) error {
	if err := s.emit(&apiv1.EventsResponse{}); err != nil { // from here on the client knows that it is live
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
	<-pumped // before it returns, nobody uses send any more

	return context.Cause(ctx)
}

// pump sends events of the tree, and now and then where the stream is.
func (s *stream) pump(ctx context.Context, place uint64) error {
	beat := time.NewTicker(s.source.Heartbeat)
	defer beat.Stop()

	batch := make([]supervisor.Event, 0, treeBatch)

	for {
		changed := s.source.feed.changed()
		for {
			var missed uint64
			batch, missed, place = s.source.feed.read(place, batch[:0])
			if missed == 0 && len(batch) == 0 {
				break
			}
			if err := s.sendTree(batch, missed); err != nil {
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

func (s *stream) sendTree(batch []supervisor.Event, missed uint64) error {
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
		if lost, ok := e.(supervisor.EventsDropped); ok { // the feed itself was too slow for the tree
			err = dropped(lost.Count)
		} else if matchTree(s.chain, e) {
			err = s.emit(&apiv1.EventsResponse{Event: &apiv1.EventsResponse_Tree{Tree: api.TreeEventOf(e)}})
		}

		if err != nil {
			return err
		}
	}

	return nil
}

// tail sends records until ctx ends, through every end of the log and of the bus.
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

// pass moves the cursor to a record and sends it, or to a mark. A client whose filter matches
// little is told the cursor now and then.
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
