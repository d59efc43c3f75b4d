package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/api"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/pubsub"
	"github.com/coppice-go/coppice/supervisor"
)

const (
	// retry is how long the tail waits at most before it looks at the log again, where nothing
	// makes it look.
	retry = 500 * time.Millisecond

	// newsBuffer is how much news may wait for a tail that reads. More is dropped: what it reads
	// comes from the log.
	newsBuffer = 16

	// treeBatch is how many events of the tree are taken at once.
	treeBatch = 64

	// skipsTold is after how many records that do not match the cursor is told.
	skipsTold = 10_000
)

// enter opens the log at the cursor, and finds out where now is. A stream whose filter matches no
// record has no need of a log.
func (s *stream) enter(ctx context.Context) error {
	if len(s.kinds) == 0 || s.cur != nil {
		return nil
	}
	log, err := s.source.Log()
	if err != nil {
		return err
	}

	s.mu.Lock()
	cursor, known := s.cursor, s.known
	s.mu.Unlock()

	if !known {
		st, err := log.Stat(ctx)
		if err != nil {
			return err
		}
		cursor = st.Durable
	}

	cur, cursor, err := Behind(ctx, log, cursor)
	if err != nil {
		return err
	}

	s.cur = cur
	s.mu.Lock()
	s.cursor, s.known = cursor, true
	s.mu.Unlock()

	return nil
}

// Behind reads the log behind a cursor, 0 being before the oldest record that is kept, and answers
// what the cursor is then. A cursor whose records are gone is api.ErrNoRecord, and one that this
// log cannot have given api.ErrBeyond: a reader that waited there would miss every record up to it.
func Behind(ctx context.Context, log Log, cursor uint64) (*eventlog.Cursor, uint64, error) {
	for {
		st, err := log.Stat(ctx)
		if err != nil {
			return nil, cursor, err
		}

		if end := readable(st); cursor > end {
			return nil, cursor,
				fmt.Errorf("%w: cursor %d, and the log ends at %d: this log is not the one that it came from; begin "+
					"again with 0, the oldest record that is kept",
					api.ErrBeyond, cursor, end)
		}

		from := cursor
		if cursor == 0 {
			from = st.First - 1
		}

		cur, err := log.Cursor(ctx, from+1)
		switch {
		case err == nil:
			return cur, from, nil
		case !errors.Is(err, eventlog.ErrTruncated):
			return nil, cursor, err
		case cursor > 0:
			return nil, cursor, fmt.Errorf("%w: %d: %w", api.ErrNoRecord, cursor+1, err)
		} // it was truncated meanwhile
	}
}

// readable is the newest record that a reader may have: a segment gives it away just before the log
// calls it durable.
func readable(st eventlog.Stat) uint64 {
	end := st.Durable
	for _, s := range st.Segments {
		end = max(end, s.Last)
	}
	return end
}

// leave gives the log up.
func (s *stream) leave() {
	if s.cur != nil {
		s.cur.Close()
		s.cur = nil
	}
}

// once sends what there is now.
func (s *stream) once(ctx context.Context) error {
	if len(s.kinds) > 0 {
		log, err := s.source.Log()
		if err != nil {
			return unavailable(ctx, err)
		}
		st, err := log.Stat(ctx)
		if err == nil {
			err = s.drain(ctx, st.Durable)
		}
		if err != nil {
			return unavailable(ctx, err)
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
	if len(s.kinds) == 0 {
		<-ctx.Done()
		return context.Cause(ctx)
	}

	again := time.NewTicker(retry)
	defer again.Stop()

	for {
		changed := s.source.feed.changed() // before the attempt, so that a log that comes up during it is not missed
		err := s.live(ctx)
		s.leave()

		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case fatal(err):
			return err
		}

		select {
		case <-changed:
		case <-again.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// live sends records as long as one incarnation of the logger and of the bus live. The bus only
// says when there is something to read: the log is truth, and a stream whose bus restarted, or who
// missed news, has missed no record.
func (s *stream) live(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the subscription, too

	news, down := s.subscribe(ctx)

	for {
		if err := s.drain(ctx, 0); err != nil {
			return err
		}
		if down != nil { // the bus is; the log is not, so that nothing waits for the bus but news
			return down
		}
		down = wait(ctx, news)
	}
}

// subscribe has the filter run by an agent of the bus. A registry that hangs must not hold up what
// can be read.
func (s *stream) subscribe(ctx context.Context) (*pubsub.Subscription[engines.Event], error) {
	sub, stop := context.WithCancel(ctx)
	late := time.AfterFunc(retry, stop)
	news, err := s.source.Bus.Subscribe(sub, s.chain, pubsub.DropOldest{Buffer: newsBuffer})
	if !late.Stop() || err != nil {
		stop()
		return nil, errors.Join(errNoNews, err)
	}

	context.AfterFunc(ctx, stop)

	return news, nil
}

var errNoNews = errors.New("the bus does not take subscribers")

// wait returns when there is news. It looks again now and then where there is none: an agent that
// hangs sends none.
func wait(ctx context.Context, news *pubsub.Subscription[engines.Event]) error {
	idle, cancel := context.WithTimeout(ctx, retry)
	defer cancel()
	_, err := news.Next(idle)
	if errors.As(err, new(*pubsub.Gap)) || err != nil && idle.Err() != nil && ctx.Err() == nil {
		return nil
	}
	return err
}

// drain sends the records that are durable and match, up to an index, where that is not 0.
func (s *stream) drain(ctx context.Context, last uint64) error {
	skipped := 0
	for ctx.Err() == nil {
		if last > 0 && s.cursor >= last { // only the tail changes it, so it may look without mu
			return nil
		}
		e, ok, err := s.cur.TryNext()
		if err != nil {
			return s.readError(err)
		}
		if !ok {
			return nil
		}
		if err := s.pass(e, &skipped); err != nil {
			return err
		}
	}

	return context.Cause(ctx)
}

// pass moves the cursor to a record, and sends it if it matches.
func (s *stream) pass(e eventlog.Entry, skipped *int) error {
	kind := chain.KindName(e.Kind)
	s.mu.Lock()
	defer s.mu.Unlock()

	s.cursor = e.Index

	if s.kinds[kind] {
		*skipped = 0
		return s.emitLocked(&apiv1.EventsResponse{
			Event: &apiv1.EventsResponse_Record{Record: &apiv1.LogRecord{Kind: kind, Record: e.Data}}})
	}

	if *skipped++; *skipped%skipsTold == 0 {
		return s.emitLocked(&apiv1.EventsResponse{})
	}

	return nil
}

// readError tells a reader that was overtaken from a log that ended, and comes back.
func (s *stream) readError(err error) error {
	if errors.Is(err, eventlog.ErrTruncated) {
		return fmt.Errorf("%w: %d: %w", api.ErrNoRecord, s.cursor+1, err)
	}
	return err
}
