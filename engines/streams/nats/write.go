package nats

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/nats-io/nats.go"

	"github.com/coppice-go/coppice/engines/streams"
)

// Write publishes the units of d in batches.
func (s *sink) Write(ctx context.Context, d streams.Delivery) error {
	if s.broken != nil {
		return s.broken
	}

	w := &writing{sink: s, delivery: d}
	err := w.run(ctx)
	if err != nil {
		s.broken = err
	}

	return err
}

// writing is one call of Write.
type writing struct {
	*sink
	delivery streams.Delivery

	pending []*nats.Msg // not sent yet
	whole   int         // of these, how many belong to whole units
	bytes   int         // of these

	unit     streams.Position
	inUnit   bool
	skips    bool // the sink has the unit
	resuming bool // the sink has the beginning of the unit
	sent     uint64
}

func (w *writing) run(ctx context.Context) error {
	for n := 0; ; n++ {
		e, err := w.delivery.Next(ctx)
		switch {
		case errors.Is(err, io.EOF) && w.inUnit:
			return fmt.Errorf("the delivery ends inside height %s", w.unit)
		case errors.Is(err, io.EOF) && n == 0:
			return w.beat(ctx)
		case errors.Is(err, io.EOF):
			return w.flush(ctx, len(w.pending))
		case err != nil:
			return err
		}

		if err := w.take(ctx, e); err != nil {
			return err
		}
		w.delivery.Credit(e.Size())
	}
}

// take adds the message of an event, unless the stream has it.
func (w *writing) take(ctx context.Context, e streams.Event) error {
	if !w.inUnit {
		if err := w.begin(ctx, e); err != nil {
			return err
		}
	}
	end, isEnd := e.Body.(*streams.End)
	w.inUnit = !isEnd

	if w.skips {
		return nil
	}
	if w.resuming {
		has, err := w.resume(ctx, e)
		if has || err != nil {
			return err
		}
	}
	if isEnd && !w.rests(end) {
		return w.outOfOrder(ctx, e, end)
	}

	m, err := w.message(e)
	if err != nil {
		return err
	}
	if err := w.makeRoom(ctx, m.Size()); err != nil {
		return err
	}
	w.pending, w.bytes = append(w.pending, m), w.bytes+m.Size()

	if isEnd {
		w.whole, w.sent, w.partial = len(w.pending), 0, nil
		w.base = w.last + uint64(len(w.pending))
		w.at = w.opening.Cursor(e).Clone()
	}

	return nil
}

// begin looks whether the stream has the unit of e, or its beginning. A beginning of another unit,
// or by another definition, is declared void.
func (w *writing) begin(ctx context.Context, e streams.Event) error {
	w.unit, w.resuming = e.Position, false
	w.skips = !w.at.Empty() && e.Position.Compare(w.at.Position) <= 0
	if w.skips || w.partial == nil {
		return nil
	}

	if w.partial.Position == e.Position && w.partial.Definition == w.opening.Definition {
		w.resuming, w.sent = true, w.partial.From
		return nil
	}

	return w.void(ctx, w.partial.From)
}

// resume reports whether the stream has the event of a unit that it has begun.
func (w *writing) resume(ctx context.Context, e streams.Event) (has bool, err error) {
	if e.Index == w.partial.Index && e.Part.Of != w.partial.Parts {
		err := fmt.Errorf("the stream has the beginning of %s in %d parts, and it comes in %d: it is written again",
			e.Place, w.partial.Parts, e.Part.Of)
		return false, errors.Join(streams.Fail(streams.Unreachable, err), w.void(ctx, w.partial.From))
	}
	if w.partial.has(e) {
		return true, nil
	}
	w.resuming = false

	return false, nil
}

// rests reports whether the unit that end closes rests on the cursor.
func (w *writing) rests(end *streams.End) bool {
	if end.After == nil {
		return w.at.Empty()
	}
	return !w.at.Empty() && *end.After == w.at.Position
}

// outOfOrder takes back what is sent of the unit, writes the units before it, and returns the
// error.
func (w *writing) outOfOrder(ctx context.Context, e streams.Event, end *streams.End) error {
	after := "nothing"
	if end.After != nil {
		after = "height " + end.After.String()
	}
	err := streams.Fail(streams.BadOrder, fmt.Errorf("height %s rests on %s, and the sink is at %s", e.Position, after,
		w.at))

	if failed := w.flush(ctx, w.whole); failed != nil {
		return failed
	}
	if w.sent != 0 {
		if failed := w.void(ctx, w.sent); failed != nil {
			return failed
		}
	}

	return err
}

// void declares that the events from a sequence on, which belong to an unfinished unit, do not
// count.
func (w *writing) void(ctx context.Context, from uint64) error {
	if err := w.flush(ctx, w.whole); err != nil {
		return err
	}
	if err := w.publish(ctx, w.controlMessage(control{Cursor: w.at, Void: from})); err != nil {
		return w.failed(ctx, err)
	}
	w.base, w.partial, w.sent = w.last, nil, 0

	return nil
}

// makeRoom sends messages if another one of a size does not fit into the batch: the whole units if
// there are any, so that a unit stays in one batch if it can.
func (w *writing) makeRoom(ctx context.Context, size int) error {
	if len(w.pending) < w.keys.Batch && w.bytes+size <= maxBatchBytes || len(w.pending) == 0 {
		return nil
	}
	if w.whole > 0 {
		return w.flush(ctx, w.whole)
	}

	if w.sent == 0 {
		w.sent = w.last + 1
	}

	return w.flush(ctx, len(w.pending))
}

// flush sends the first n messages that are pending.
func (w *writing) flush(ctx context.Context, n int) error {
	if n == 0 {
		return nil
	}

	send := w.sendEach
	if w.atomic {
		send = w.sendBatch
	}
	if err := send(ctx, w.pending[:n]); err != nil {
		return w.failed(ctx, err)
	}

	w.pending = append([]*nats.Msg(nil), w.pending[n:]...)
	w.bytes = 0
	for _, m := range w.pending {
		w.bytes += m.Size()
	}
	w.whole = max(w.whole-n, 0)

	return nil
}
