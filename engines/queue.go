package engines

import (
	"sync"
	"sync/atomic"
)

// keptBatch is the capacity of the largest batch buffer that an idle queue keeps.
const keptBatch = 1024

// queue is the bounded queue of a mailbox, with the sleep of its one receiver.
//
// The receiver takes all that waits at once, as a batch, under one lock. Messages of the batch that
// it has not begun still count as waiting, so the bound is exact. A queue that is full has a list
// of senders in the order of their arrival; the receiver puts their messages into the queue itself
// as it makes room.
//
// The receiver sleeps only after a take that found nothing. That take sets asleep under the same
// lock, and each put and post looks at asleep under the lock, so no wake-up can be lost.
type queue struct {
	size int
	wake chan struct{} // holds a token when the receiver may have something to take

	mu      sync.Mutex
	in      []message
	posted  []any     // messages of the engine to itself: neither bounded nor counted
	senders []*sender // that wait for room
	asleep  bool
	closed  bool
	stamp   int64 // the time of sending of the last message that got its own

	left    atomic.Int64 // messages of the batch that the receiver has not begun
	taken   atomic.Int64 // messages that the receiver has taken so far, and posts that it has begun
	blocked atomic.Bool  // senders is not empty
	call    atomic.Bool  // see attend
}

// sender is a message that waits for room in the queue.
type sender struct {
	msg      message
	entered  bool          // the message is in the queue
	resolved chan struct{} // closed when entered is set, or the queue is closed
}

// stampEach is how many messages of a queue that is not empty share a time of sending.
const stampEach = 64

func newQueue(size int) *queue { return &queue{size: size, wake: make(chan struct{}, 1)} }

// admission is the answer of put.
type admission uint8

const (
	admitted admission = iota
	full
	ended // the queue is closed
)

// put appends msg if there is room. If rouse is true, the caller then calls signal.
func (q *queue) put(msg *message) (a admission, rouse bool) {
	q.mu.Lock()

	switch {
	case q.closed:
		a = ended
	case len(q.senders) > 0 || !q.room():
		a = full
	default:
		q.push(msg)
		rouse, q.asleep = q.asleep, false
	}

	q.mu.Unlock()
	return a, rouse
}

// room reports whether one more message may wait. mu is held.
func (q *queue) room() bool { return len(q.in)+int(q.left.Load()) < q.size }

// push appends msg. mu is held.
func (q *queue) push(msg *message) {
	if msg.sent == 0 {
		if n := len(q.in); n == 0 || n%stampEach == 0 {
			q.stamp = clock()
		}
		msg.sent = q.stamp
	}
	q.in = append(q.in, *msg)
}

// join adds a sender that waits for room. If there is room by now, its message enters the queue at
// once, and the caller calls signal if rouse is true. join returns nil if the queue is closed.
func (q *queue) join(msg *message) (s *sender, rouse bool) {
	q.mu.Lock()
	defer q.mu.Unlock()

	if q.closed {
		return nil, false
	}

	s = &sender{msg: *msg, resolved: make(chan struct{})}
	q.senders = append(q.senders, s)
	q.blocked.Store(true) // before the look at the room, see begin
	q.admit()
	rouse, q.asleep = q.asleep && len(q.in) > 0, q.asleep && len(q.in) == 0

	return s, rouse
}

// quit takes s off the list. It reports whether its message is in the queue already.
func (q *queue) quit(s *sender) (entered bool) {
	q.mu.Lock()
	defer q.mu.Unlock()

	for i, other := range q.senders {
		if other == s {
			q.senders = append(q.senders[:i], q.senders[i+1:]...)
			q.blocked.Store(len(q.senders) > 0)
			break
		}
	}

	return s.entered
}

// admit moves messages of waiting senders into the queue while there is room. mu is held.
func (q *queue) admit() {
	n := 0
	for n < len(q.senders) && q.room() {
		s := q.senders[n]
		q.push(&s.msg)
		s.entered = true
		close(s.resolved)
		n++
	}

	if n > 0 {
		rest := copy(q.senders, q.senders[n:])
		clear(q.senders[rest:])
		q.senders = q.senders[:rest]
		q.blocked.Store(rest > 0)
	}
}

// post appends v to the messages of the engine to itself. If rouse is true, the caller then calls
// signal.
func (q *queue) post(v any) (rouse bool) {
	q.mu.Lock()
	defer q.mu.Unlock()

	if q.closed {
		return false // nothing takes it, and nothing should keep it
	}

	q.posted = append(q.posted, v)
	q.call.Store(true)
	rouse, q.asleep = q.asleep, false

	return rouse
}

// signal wakes the receiver.
func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default: // a token is there already
	}
}

// take returns all that waits. Without anything, the receiver must sleep until there is a token in
// wake. The batch is valid until the next take; used is the previous one.
func (q *queue) take(used []message) (batch []message, posted []any) {
	clear(used) // keep no message alive
	if cap(used) > keptBatch {
		used = nil
	}

	q.mu.Lock()
	defer q.mu.Unlock()

	q.left.Store(0)
	if len(q.senders) > 0 {
		q.admit()
	}

	posted, q.posted = q.posted, nil

	batch, q.in = q.in, used[:0]
	q.left.Store(int64(len(batch)))
	q.taken.Add(int64(len(batch)))
	q.asleep = len(batch) == 0 && posted == nil

	return batch, posted
}

// takePosted returns the messages of the engine to itself.
func (q *queue) takePosted() []any {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.posted
	q.posted = nil
	return p
}

// attend has the receiver look, before its next message, at what it sent to itself and at faults.
// It wakes the receiver.
func (q *queue) attend() {
	q.call.Store(true)
	q.signal()
}

// attention reports whether post or attend has been called since the last time.
func (q *queue) attention() bool { return q.call.Load() && q.call.Swap(false) }

// begin notes that the receiver begins a message of the batch, behind which left others wait. A
// sender sets blocked before it looks at left, and begin sets left before it looks at blocked, so
// one of the two sees the room.
func (q *queue) begin(left int) {
	q.left.Store(int64(left))
	if q.blocked.Load() {
		q.mu.Lock()
		q.admit()
		q.mu.Unlock()
	}
}

// waiting returns how many messages wait.
func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.in) + int(q.left.Load())
}

// close ends the queue: it takes nothing more, and forgets what it holds.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()

	q.closed = true
	for _, s := range q.senders {
		close(s.resolved)
	}
	q.in, q.posted, q.senders = nil, nil, nil
	q.blocked.Store(false)
}
