package sinktest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/coppice-go/coppice/engines/streams"
)

// errCut is the error with which a delivery breaks off, as when the node is told to stop.
var errCut = errors.New("the delivery was cut")

// window is the credit that a delivery gives beyond one event, in bytes.
const window = 16 << 10

// delivery delivers units.
type delivery struct {
	units  []Unit
	events []streams.Event // in parts; nil: not made yet
	limit  int             // of a payload
	cut    int             // Next fails at this event; below 0: never
	at     int
	last   streams.Event // whose memory the sink may use

	mu     sync.Mutex
	open   int           // bytes that were delivered and not credited
	change chan struct{} // closed when open changes
}

func deliver(limit int, units ...Unit) *delivery {
	return &delivery{units: units, limit: limit, cut: -1, change: make(chan struct{})}
}

func (d *delivery) cutAt(n int) *delivery {
	d.cut = n
	return d
}

func (d *delivery) all() []streams.Event {
	if d.events == nil {
		d.events = split(d.limit, d.units...)
	}
	return d.events
}

// split returns copies of the events of units, in parts.
func split(limit int, units ...Unit) (events []streams.Event) {
	for _, u := range units {
		for _, e := range u {
			streams.Split(e, limit, func(e streams.Event) error {
				events = append(events, clone(e))
				return nil
			})
		}
	}
	return events
}

// clone returns an event with memory of its own.
func clone(e streams.Event) streams.Event {
	b, err := streams.AppendProto(nil, e)
	if err != nil {
		panic(err)
	}
	c, err := streams.ParseProto(b)
	if err != nil {
		panic(err)
	}
	if end, ok := e.Body.(*streams.End); ok {
		c.Body.(*streams.End).After = end.After
	}
	return c
}

func (d *delivery) Next(ctx context.Context) (streams.Event, error) {
	spoil(d.last)
	d.last = streams.Event{}

	events := d.all()
	if d.at == d.cut {
		return streams.Event{}, errCut
	}
	if d.at == len(events) {
		return streams.Event{}, io.EOF
	}

	e := clone(events[d.at])
	if err := d.wait(ctx, e.Size()); err != nil {
		return streams.Event{}, err
	}
	d.at++
	d.last = e

	return e, nil
}

// wait waits until size more bytes fit.
func (d *delivery) wait(ctx context.Context, size int) error {
	for {
		d.mu.Lock()
		if d.open == 0 || d.open+size <= window {
			d.open += size
			d.mu.Unlock()
			return nil
		}
		open, change := d.open, d.change
		d.mu.Unlock()

		select {
		case <-change:
		case <-ctx.Done():
			return fmt.Errorf("the sink holds %d bytes without credit: %w", open, context.Cause(ctx))
		}
	}
}

func (d *delivery) Credit(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open -= n
	close(d.change)
	d.change = make(chan struct{})
}

// spoil overwrites the memory of an event.
func spoil(e streams.Event) {
	if e.Body == nil {
		return
	}
	for _, b := range [][]byte{e.Payload(), e.Key()} {
		for i := range b {
			b[i] = 0xdd
		}
	}
	switch b := e.Body.(type) {
	case *streams.End:
		clear(b.BlockHash)
		clear(b.AppHash)
		clear(b.Digest)
	case *streams.Block:
		clear(b.Hash)
	case *streams.Tx:
		clear(b.ID)
	}
}
