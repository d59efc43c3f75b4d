package sinktest

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/coppice-go/coppice/engines/streams"
)

// Deliver returns a delivery of units, for the tests of one sink.
func Deliver(units ...Unit) streams.Delivery { return deliver(streams.MaxPayload, units...) }

// DeliverCut returns a delivery of units that breaks off after n events with ErrCut.
func DeliverCut(n int, units ...Unit) streams.Delivery {
	return deliver(streams.MaxPayload, units...).cutAt(n)
}

// DeliverParts returns a delivery of units for a sink with limits.
func DeliverParts(l streams.Limits, units ...Unit) streams.Delivery {
	return deliver(l.PayloadLimit(), units...)
}

// ErrCut is the error of a delivery that breaks off.
var ErrCut = errCut

// Verify compares all that a sink holds with units.
func Verify(ctx context.Context, s streams.Sink, units ...Unit) (streams.Report, error) {
	limits := streams.Limits{}
	if l, ok := s.(streams.Limiter); ok {
		var err error
		if limits, err = l.Limits(ctx); err != nil {
			return streams.Report{}, err
		}
	}

	events := split(limits.PayloadLimit(), units...)
	report, err := streams.Verify(ctx, s, everything[0], everything[1], func(context.Context) (streams.Event, error) {
		if len(events) == 0 {
			return streams.Event{}, io.EOF
		}
		e := events[0]
		events = events[1:]
		return e, nil
	})
	if errors.Is(err, streams.ErrNoRead) {
		err = nil
	}

	return report, err
}

// NewUnit returns the unit after a position, with bodies of a test's own. A nil position makes the
// first unit.
func NewUnit(after *streams.Position, bodies ...streams.Body) Unit {
	b := builder{at: streams.Place{ChainID: ChainID}}
	if after != nil {
		b.at.Position = streams.Position{Period: after.Period, Height: after.Height + 1}
	}
	for _, body := range bodies {
		b.add(body)
	}

	u := b.end(hash(fmt.Sprint("own ", b.at.Height)), hash(fmt.Sprint("own state ", b.at.Height)))
	u.End().Body.(*streams.End).After = after

	return u
}
