package sinktest

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/coppice-go/coppice/engines/streams"
)

// memory is a place that memorySinks write to.
type memory struct {
	mu      sync.Mutex
	cursor  streams.Cursor
	events  []streams.Event
	unwound []streams.Event // acknowledged and not kept: see ackEarly
}

// mistakes are planted in a memorySink.
type mistakes struct {
	cursorApart  bool // the cursor moves in a step of its own, before the events
	ackEarly     bool // Write returns before the events are kept
	noFence      bool
	noSkip       bool
	noOrder      bool
	halfUnits    bool // a cut delivery leaves the events of its last unit
	reusesMemory bool // it keeps the memory of an event after the next Next
	noCredit     bool
	closeResets  bool // Close of a fenced sink harms its successor
	dropsParts   bool
}

func memoryFactory(m mistakes, to *memory) streams.Factory {
	return streams.Factory{Kind: "memory", Version: "1", Ack: streams.Durable, Limits: streams.Limits{Payload: 4096},
		New: func(streams.Definition, streams.Secrets) (streams.Sink, error) {
			return &memorySink{mistakes: m, memory: to}, nil
		}}
}

// memorySink is the smallest right sink, and with mistakes a wrong one.
type memorySink struct {
	mistakes
	*memory
	o    streams.Opening
	late []streams.Event
}

func (s *memorySink) Open(_ context.Context, o streams.Opening) (streams.Cursor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cursor.Epoch >= o.Epoch && !s.noFence {
		return streams.Cursor{}, streams.Fail(streams.Fenced, errors.New("a newer epoch writes"))
	}
	s.o, s.cursor.Epoch = o, o.Epoch
	return s.cursor, nil
}

func (s *memorySink) Write(ctx context.Context, d streams.Delivery) error {
	s.mu.Lock()
	events, cursor := s.events, s.cursor
	s.mu.Unlock()

	whole := len(events)
	for {
		e, err := d.Next(ctx)
		if err != nil && err != io.EOF {
			if s.halfUnits {
				s.commit(events, cursor)
			}
			if s.cursorApart {
				s.commit(events[:whole], s.o.Cursor(last(events)))
			}
			return err
		}
		if err == io.EOF {
			return s.commit(events, cursor)
		}
		if !s.noCredit {
			d.Credit(e.Size())
		}

		if !cursor.Empty() && e.Position.Compare(cursor.Position) <= 0 && !s.noSkip {
			continue
		}
		if s.dropsParts && e.Part.Number > 1 {
			continue
		}
		if !s.reusesMemory {
			e = clone(e)
		}
		events = append(events[:len(events):len(events)], e)
		if end, ok := e.Body.(*streams.End); ok {
			rests := end.After == nil && cursor.Empty() || end.After != nil && !cursor.Empty() &&
				*end.After == cursor.Position
			if !rests && !s.noOrder {
				return streams.Fail(streams.BadOrder, errors.New("the unit does not rest on the cursor"))
			}
			cursor, whole = s.o.Cursor(e), len(events)
		}
	}
}

func last(events []streams.Event) streams.Event {
	if n := len(events); n > 0 {
		if _, ok := events[n-1].Body.(*streams.End); ok {
			return events[n-1]
		}
		e := events[n-1]
		e.Body = &streams.End{}
		return e
	}
	return streams.Event{Body: &streams.End{}}
}

func (s *memorySink) commit(events []streams.Event, c streams.Cursor) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cursor.Epoch != s.o.Epoch && !s.noFence {
		return streams.Fail(streams.Fenced, errors.New("a newer epoch writes"))
	}
	if s.ackEarly { // the newest unit is kept only with the next one
		if s.late == nil {
			s.late = events
			return nil
		}
		events, s.late = s.late, events
		c = s.o.Cursor(last(events))
	}
	s.events, s.cursor = events, c
	return nil
}

func (s *memorySink) Observe(context.Context) (streams.Cursor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cursor, nil
}

func (s *memorySink) Read(_ context.Context, from, to streams.Position, f func(streams.Event) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		if e.Position.Compare(from) < 0 || e.Position.Compare(to) > 0 {
			continue
		}
		if err := f(e); err != nil {
			return err
		}
	}
	return nil
}

func (s *memorySink) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closeResets && s.cursor.Epoch != s.o.Epoch {
		s.cursor = streams.Cursor{}
	}
	return nil
}
