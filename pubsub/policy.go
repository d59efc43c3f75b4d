package pubsub

import (
	"fmt"
	"time"
)

// MaxBuffer is the size in events of the largest buffer that a subscription can have.
const MaxBuffer = 1 << 20

// Policy decides what happens to a subscriber whose buffer is full. It is a Block, a DropOldest or
// a Disconnect. Whatever the policy, the buffer belongs to that one subscription: no publisher and
// no other subscriber waits for it, and it never holds more than Buffer events.
type Policy interface {
	buffer() int
	validate() error
}

// Block keeps the oldest events and gives the reader time. When an event finds the buffer full,
// Bound begins to run. A reader that takes an event within that time goes on, and gets a Gap in
// place of the events that had no room meanwhile. A reader that takes none is disconnected with
// ErrSlow. Buffer is in events.
//
// Block never makes the bus wait. Nor does the bus keep a second backlog for a reader: it drops and
// counts an event that has no room in the buffer, because the event can be read from the log.
type Block struct {
	Buffer int
	Bound  time.Duration
}

// DropOldest keeps the newest events. When an event finds the buffer full, the oldest event there
// makes room: Dropped counts it, and a Gap takes its place. DropOldest never disconnects. Buffer is
// in events.
type DropOldest struct {
	Buffer int
}

// Disconnect ends the subscription with ErrSlow when an event finds the buffer full. The reader
// still gets the events in the buffer. Disconnect never makes a Gap of its own. Buffer is in
// events.
type Disconnect struct {
	Buffer int
}

func (p Block) buffer() int      { return p.Buffer }
func (p DropOldest) buffer() int { return p.Buffer }
func (p Disconnect) buffer() int { return p.Buffer }

func (p Block) validate() error {
	if p.Bound <= 0 {
		return fmt.Errorf("%w: Block.Bound is %v, want a positive duration", ErrOptions, p.Bound)
	}
	return checkBuffer("Block", p.Buffer)
}

func (p DropOldest) validate() error { return checkBuffer("DropOldest", p.Buffer) }

func (p Disconnect) validate() error { return checkBuffer("Disconnect", p.Buffer) }

func checkBuffer(policy string, n int) error {
	if n < 1 || n > MaxBuffer {
		return fmt.Errorf("%w: %s.Buffer is %d, want 1 to %d events", ErrOptions, policy, n, MaxBuffer)
	}
	return nil
}
