package pubsub

import (
	"fmt"
	"time"
)

// MaxBuffer is the greatest buffer of a subscription, in events.
const MaxBuffer = 1 << 20

// Policy is what becomes of a subscriber whose buffer is full: one of Block, DropOldest and
// Disconnect. Whatever the policy, the buffer belongs to that one subscription: nobody else waits
// for it, and it never holds more than Buffer events.
type Policy interface {
	buffer() int
	validate() error
}

// Block keeps the oldest events and gives the reader time. When an event finds the buffer full, the
// bound begins to run. A reader that takes something within it goes on, and finds a Gap where
// events had no room meanwhile; one that takes nothing is disconnected with ErrSlow. Buffer is in
// events.
//
// What blocks is the end of this one buffer and nothing before it. The bus holds no second backlog
// for a reader: an event without room is counted, not kept, since the log has it.
type Block struct {
	Buffer int
	Bound  time.Duration
}

// DropOldest keeps the newest events: when an event finds the buffer full, the oldest one there
// makes room, is counted by Dropped, and leaves a Gap. It never disconnects. Buffer is in events.
type DropOldest struct {
	Buffer int
}

// Disconnect ends the subscription with ErrSlow when an event finds the buffer full; the reader
// still gets what is in the buffer. It never makes a Gap of its own. Buffer is in events.
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
