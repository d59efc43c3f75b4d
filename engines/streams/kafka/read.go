package kafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/coppice-go/coppice/engines/streams"
)

// Read reads the committed records. With several partitions it merges them by place; the End of a
// unit, which each partition has, comes once.
func (s *sink) Read(ctx context.Context, from, to streams.Position, f func(streams.Event) error) error {
	return s.events(ctx, from, to, func(m stored) error { return f(m.event) })
}

// events passes the records of events, in the order of their places.
func (s *sink) events(ctx context.Context, from, to streams.Position, f func(stored) error) error {
	client, err := s.client()
	if err != nil {
		return err
	}
	defer client.Close()
	if err := s.reach(ctx, client); err != nil {
		return err
	}
	now, places, err := s.follow(ctx, client, nil)
	if err != nil || now == nil {
		return err
	}

	if len(places) == 1 {
		return now.readOne(ctx, client, 0, places[0], from, to, f)
	}

	// What one partition has and another one lacks is not there yet: the next writer adds the rest.
	at := lowest(places)
	if at.Empty() {
		return nil
	}
	if at.Position.Compare(to) < 0 {
		to = at.Position
	}

	return now.merge(ctx, client, places, from, to, f)
}

// readOne passes the events of a partition, the chunks of a bootstrap in the order of their
// numbers.
func (s *sink) readOne(ctx context.Context, client *kgo.Client, p int32, at place, from, to streams.Position,
	f func(stored) error,
) error {
	ranges, err := s.inOrder(ctx, client, p, at)
	if err != nil {
		return err
	}
	for _, r := range ranges {
		err := s.consume(ctx, client, p, r[0], r[1], func(m stored) error {
			if m.control != nil || m.event.Position.Compare(from) < 0 || m.event.Position.Compare(to) > 0 {
				return nil
			}
			return f(m)
		})
		if err != nil {
			return err
		}
	}

	return nil
}

// errEnough ends the reading of partitions when another one has failed.
var errEnough = errors.New("enough")

// merge passes the events of all partitions, in the order of their places.
func (s *sink) merge(ctx context.Context, client *kgo.Client, places []place, from, to streams.Position,
	f func(stored) error,
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	// Each partition is read by a goroutine of its own, a few events ahead.
	type source struct {
		events chan stored
		err    error // valid when events is closed
	}
	sources := make([]*source, len(places))
	for p := range places {
		src := &source{events: make(chan stored, 64)}
		sources[p] = src
		go func() {
			defer close(src.events)
			src.err = s.readOne(ctx, client, int32(p), places[p], from, to, func(m stored) error {
				select {
				case src.events <- m:
					return nil
				case <-ctx.Done():
					return errEnough
				}
			})
		}()
	}
	defer func() { // no goroutine outlives the call
		cancel()
		for _, src := range sources {
			for range src.events { //nolint:revive // until it is closed
			}
		}
	}()

	heads := make([]*stored, len(sources))
	next := func(p int) error {
		m, ok := <-sources[p].events
		heads[p] = nil
		if ok {
			heads[p] = &m
			return nil
		}
		return sources[p].err
	}
	for p := range sources {
		if err := next(p); err != nil {
			return err
		}
	}

	var last streams.Event
	for {
		p := first(heads)
		if p < 0 {
			return nil
		}
		m := *heads[p]
		if !sameEnd(last, m.event) {
			if err := f(m); err != nil {
				return err
			}
		}
		last = m.event
		if err := next(p); err != nil {
			return err
		}
	}
}

// first returns the index of the event that comes first, or -1. An End comes after all partitions
// have come to it.
func first(heads []*stored) int {
	best := -1
	for p, m := range heads {
		if m != nil && (best < 0 || before(m.event, heads[best].event)) {
			best = p
		}
	}
	return best
}

func before(a, b streams.Event) bool {
	if c := a.Position.Compare(b.Position); c != 0 {
		return c < 0
	}
	if a.Index != b.Index {
		return a.Index < b.Index
	}
	return a.Part.Number < b.Part.Number
}

// sameEnd reports whether two events are the End of one unit.
func sameEnd(a, b streams.Event) bool {
	if a.Body == nil || a.Place != b.Place {
		return false
	}
	_, isEnd := a.Body.(*streams.End)
	_, also := b.Body.(*streams.End)
	return isEnd && also
}
