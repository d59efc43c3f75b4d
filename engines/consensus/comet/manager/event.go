package manager

import (
	"context"
	"sync"
	"time"
)

// State says what the machine does.
type State string

// States of the machine.
const (
	Starting  State = "starting" // a process is to start, or is not up yet
	Running   State = "running"  // CometBFT is up
	Waiting   State = "waiting"  // no process runs; the next start comes after a pause
	Gentle    State = "gentle"   // a gentle reset is under way
	Hard      State = "hard"     // a hard reset is under way
	Down      State = "down"     // the machine has stopped the process
	Stalled   State = "stalled"  // CometBFT is up and makes no block
	Abandoned State = "given up" // the stall ladder has given up
	Broken    State = "broken"   // CometBFT lives and its consensus has ended
	Stuck     State = "stuck"    // a process could not be ended, so no other one may start
)

// Event is a change of the machine, or something that it has found out.
type Event struct {
	Seq   uint64    `json:"seq"`
	At    time.Time `json:"at"`
	State State     `json:"state"` // after the event
	Text  string    `json:"text"`
}

// Status is what the machine knows of CometBFT.
type Status struct {
	State   State     `json:"state"`
	Since   time.Time `json:"since"` // of the state
	ChainID string    `json:"chain_id,omitempty"`
	PID     int       `json:"pid,omitempty"`

	// Height is that of CometBFT's last block, and HeightAt when it was first seen.
	Height   int64     `json:"height"`
	HeightAt time.Time `json:"height_at,omitzero"`

	// RPC and ABCI are why CometBFT, or the application behind it, does not answer; empty if it
	// does.
	RPC  string `json:"rpc,omitempty"`
	ABCI string `json:"abci,omitempty"`

	// Failure is the line in which CometBFT said that its consensus has ended.
	Failure string `json:"consensus_failure,omitempty"`

	Restarts int    `json:"restarts"` // that nobody asked for
	Resets   int    `json:"resets"`   // that succeeded
	Last     string `json:"last,omitempty"`

	Events []Event `json:"events,omitempty"`
}

// mostEvents bounds the events that are kept.
const mostEvents = 256

// record is the history of a machine and its present.
type record struct {
	now func() time.Time

	mu      sync.Mutex
	status  Status
	events  []Event
	seq     uint64
	changed chan struct{} // closed at the next event
	observe func(Event)
}

func newRecord(now func() time.Time, observe func(Event)) *record {
	return &record{now: now, changed: make(chan struct{}), observe: observe,
		status: Status{State: Starting, Since: now()}}
}

// tell notes an event. An empty state leaves the state unchanged.
func (r *record) tell(s State, text string) {
	r.mu.Lock()
	if s != "" && s != r.status.State {
		r.status.State, r.status.Since = s, r.now()
	}
	r.seq++
	e := Event{Seq: r.seq, At: r.now(), State: r.status.State, Text: text}
	if r.events = append(r.events, e); len(r.events) > mostEvents {
		r.events = append([]Event(nil), r.events[len(r.events)-mostEvents:]...)
	}
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()

	if r.observe != nil {
		r.observe(e)
	}
}

// set changes the status without an event.
func (r *record) set(f func(*Status)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.status)
}

func (r *record) state() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status.State
}

// since returns the status with the events after the one with the number seq.
func (r *record) since(seq uint64) (s Status, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()

	s = r.status
	for _, e := range r.events {
		if e.Seq > seq {
			s.Events = append(s.Events, e)
		}
	}

	return s, r.changed
}

// wait returns the status once there is an event after seq, or when ctx ends.
func (r *record) wait(ctx context.Context, seq uint64) Status {
	for {
		s, changed := r.since(seq)
		if len(s.Events) > 0 {
			return s
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return s
		}
	}
}
