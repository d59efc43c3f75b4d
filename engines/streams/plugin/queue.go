package plugin

import (
	"context"
	"sync"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/plugin/wire"
	pluginv1 "github.com/coppice-go/coppice/proto/coppice/plugin/v1"
)

// maxRequest is about how many bytes of events a request has.
const maxRequest = 1 << 20

// queue holds the events between a delivery and the connection. The delivery may wait for credit
// of events that lie here, so they are sent as soon as the connection is free; while it is not,
// they gather.
type queue struct {
	mu      sync.Mutex
	changed sync.Cond
	items   []*pluginv1.Item
	bytes   int
	cause   error // of the end of the delivery
	stopped bool
	filled  chan struct{} // closed when the delivery is not used any more
}

func newQueue() *queue {
	q := &queue{filled: make(chan struct{})}
	q.changed.L = &q.mu
	return q
}

// fill takes the events of a delivery until it ends or the queue is stopped.
func (q *queue) fill(ctx context.Context, d streams.Delivery) {
	defer close(q.filled)
	for {
		var item *pluginv1.Item
		e, err := d.Next(ctx)
		if err == nil {
			item, err = wire.FromEvent(e)
		}
		if !q.put(item, err) {
			return
		}
	}
}

// put adds an event, or the end of the delivery, and waits while the queue is full. It reports
// whether more is wanted.
func (q *queue) put(item *pluginv1.Item, err error) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.bytes >= maxRequest && !q.stopped {
		q.changed.Wait()
	}

	if err != nil {
		q.cause = err
	} else {
		q.items, q.bytes = append(q.items, item), q.bytes+len(item.Event)
	}
	q.changed.Broadcast()

	return err == nil && !q.stopped
}

// take waits for events or for the end of the delivery, and returns what is there.
func (q *queue) take() ([]*pluginv1.Item, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.items) == 0 && q.cause == nil {
		q.changed.Wait()
	}

	items := q.items
	q.items, q.bytes = nil, 0
	q.changed.Broadcast()

	return items, q.cause
}

// stop ends fill, which may be in the delivery's Next: its context must have ended or end soon.
func (q *queue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped = true
	q.changed.Broadcast()
}
