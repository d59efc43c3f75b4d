package streams

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// A delivery ends after so many events or bytes, at the end of a unit.
const (
	deliveryEvents = 5_000
	deliveryBytes  = 8 << 20
)

// delivery is one Write: the units that the log has now, as far as the bounds allow.
type delivery struct {
	r      *reader   // nil: nothing comes after u
	u      *unit     // under way; nil: none is left
	after  *Position // of the sink once the units before u are written
	window int64     // bytes that may be without credit

	last      Cursor // after the last whole unit; empty: none yet
	lastIndex uint64
	lastTime  time.Time
	passed    *unit // behind last: units of which the filter leaves nothing
	events    int
	bytes     int64
	current   Event // that was returned last
	blockTime time.Time
	stopped   error // why no further unit was begun

	mu       sync.Mutex
	open     int64
	credited chan struct{}
	progress time.Time
	told     func() // called after each credit; may be nil
	now      func() time.Time
}

// newDelivery returns a delivery that begins with u, or with nothing if u is nil. It goes on with
// what r has; if r is nil, it ends with u.
func newDelivery(r *reader, u *unit, after *Position, window int64, now func() time.Time) *delivery {
	return &delivery{r: r, u: u, after: after, window: window, credited: make(chan struct{}), now: now, progress: now()}
}

// Next implements Delivery.
func (d *delivery) Next(ctx context.Context) (Event, error) {
	if err := d.wait(ctx); err != nil {
		return Event{}, err
	}

	for d.u != nil {
		e, err := d.u.next()
		if err == nil {
			d.took(e)
			return e, nil
		}
		if err != io.EOF {
			return Event{}, err
		}
		if err := d.nextUnit(ctx); err != nil {
			return Event{}, err
		}
	}

	return Event{}, io.EOF
}

func (d *delivery) took(e Event) {
	n := e.Size()
	d.current = e
	d.events++
	d.bytes += int64(n)
	if b, ok := e.Body.(*Block); ok {
		d.blockTime = b.Time
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	d.open += int64(n)
}

// nextUnit closes the unit under way, and begins the next one that has something to deliver, if the
// log has it now.
func (d *delivery) nextUnit(ctx context.Context) error {
	d.last, d.lastIndex, d.lastTime = d.u.cursor, d.u.index, d.blockTime
	at := d.u.cursor.Position
	d.after, d.u = &at, nil
	if d.r == nil || d.events >= deliveryEvents || d.bytes >= deliveryBytes {
		return nil
	}

	for {
		u, err := d.r.unit(ctx, false)
		if ClassOf(err) == GapInLog {
			d.stopped = err
			return nil
		}
		if err != nil || u == nil {
			return err
		}
		if err := u.begin(d.after); err != nil {
			return err
		}
		if !u.empty {
			d.u, d.passed = u, nil
			return nil
		}
		d.passed = u
	}
}

// wait waits while too many bytes are without credit.
func (d *delivery) wait(ctx context.Context) error {
	for {
		d.mu.Lock()
		open, credited := d.open, d.credited
		d.mu.Unlock()
		if open < d.window {
			return nil
		}

		select {
		case <-credited:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Credit implements Delivery.
func (d *delivery) Credit(bytes int) {
	d.mu.Lock()
	d.open -= int64(bytes)
	d.progress = d.now()
	close(d.credited)
	d.credited = make(chan struct{})
	d.mu.Unlock()

	if d.told != nil {
		d.told()
	}
}

// since returns when the sink has given credit last.
func (d *delivery) since() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.progress
}

// refused returns the event at a place, or only the place if the event is gone from memory.
func (d *delivery) refused(at Place) Event {
	if d.current.Body != nil && d.current.Place == at {
		return d.current
	}
	if d.u != nil {
		d.u.raw.restart()
		for {
			e, err := d.u.raw.next()
			if err != nil {
				break
			}
			if e.Place == at {
				return e.Event
			}
		}
	}
	return Event{Place: at, Body: &Rejected{}}
}

// InBatches passes a delivery to batch until it ends. Each call gets the first event of a batch,
// and takes as many more as it wants. beat is called instead if the delivery is empty. It is for
// sinks that write one transaction after the other.
func InBatches(ctx context.Context, d Delivery, beat func(context.Context) error,
	batch func(ctx context.Context, d Delivery, first Event) error) error {
	first, err := d.Next(ctx)
	if errors.Is(err, io.EOF) {
		return beat(ctx)
	}

	for ; err == nil; first, err = d.Next(ctx) {
		if err := batch(ctx, d, first); err != nil {
			return err
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}

	return err
}
