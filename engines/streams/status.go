package streams

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/coppice-go/coppice/eventlog"
)

// Status says where a slot stands.
type Status struct {
	Name       string     `json:"name"`
	Kind       string     `json:"kind"`
	State      State      `json:"state"`
	Cursor     Cursor     `json:"cursor"` // of the sink
	Stands     Cursor     `json:"stands"` // up to where nothing is left to deliver
	Floor      uint64     `json:"floor"`  // oldest record of the log that the slot keeps
	HeldBytes  int64      `json:"held_bytes"`
	FreeBytes  int64      `json:"free_bytes"` // to the cap; -1: there is none
	AtRisk     bool       `json:"at_risk"`    // half of the cap is used
	LagEvents  int64      `json:"lag_events"` // estimate by LagBytes; -1: not known
	LagBytes   int64      `json:"lag_bytes"`
	LagHeights uint64     `json:"lag_heights"`
	LagSeconds float64    `json:"lag_seconds"`
	First      *Cause     `json:"first_cause,omitempty"`
	Last       *Cause     `json:"last_cause,omitempty"`
	Exempt     *time.Time `json:"exempt_until,omitempty"`
	Parked     int        `json:"parked"`
	Counts     Counts     `json:"counts"`
	History    []Act      `json:"history,omitempty"`
	Ack        string     `json:"ack"`
	Standby    bool       `json:"standby"`
	Definition string     `json:"definition"` // hash

	// Bootstrapped is how much of a bootstrap is done, of 1; it is 1 if none is under way.
	Bootstrapped float64 `json:"bootstrapped"`
}

// Head is where the node's chain stands, for the lag of a slot.
type Head struct {
	Position
	Time time.Time
}

// Status returns the status of a slot. stat is of the log; the zero Stat leaves figures of the log
// at 0.
func (s *Streams) Status(name string, head Head, stat eventlog.Stat) (Status, error) {
	sl, err := s.slot(name)
	if err != nil {
		return Status{}, err
	}
	required := sl.required()

	sl.mu.Lock()
	defer sl.mu.Unlock()

	f := sl.file
	st := Status{
		Name: name, Kind: sl.def.Kind, State: f.State, Cursor: f.Acked, Stands: f.stands(), Floor: f.Floor,
		HeldBytes: sl.held(stat), FreeBytes: -1, LagBytes: bytesFrom(stat, sl.index+1), First: f.First, Last: f.Last,
		Parked: sl.parked.waiting(), Counts: sl.counts, History: f.History, Ack: sl.factory.Ack.String(),
		Standby: sl.def.Standby, Definition: f.Definition,
	}
	st.Bootstrapped = 1
	if f.Bootstrap != nil {
		st.Bootstrapped = sl.boot.value()
	}
	st.Counts.Retries = maps.Clone(sl.counts.Retries)
	st.LagEvents = sl.density.lag(st.LagBytes)

	bytes, age := sl.def.caps(required)
	if bytes > 0 {
		st.FreeBytes = max(bytes-st.HeldBytes, 0)
	}
	st.AtRisk = !f.Lost && sl.uses(st.HeldBytes, bytes, age, s.now()) >= riskShare
	if f.Exempt.After(s.now()) {
		st.Exempt = &f.Exempt
	}
	if at := st.Stands.Position; head.Period == at.Period && head.Height > at.Height {
		st.LagHeights = head.Height - at.Height
		if !f.At.IsZero() && head.Time.After(f.At) {
			st.LagSeconds = head.Time.Sub(f.At).Seconds()
		}
	}

	return st, nil
}

// Standing is what a gate needs to know of a slot.
type Standing struct {
	At       Cursor // up to where nothing is left to deliver; empty: nowhere
	Known    bool   // the sink has answered in this process
	Progress time.Time
	State    State
	Exempt   bool
	Paused   bool
	Degraded bool // events are parked
	Lost     bool
	Ack      AckLevel
	Cause    *Cause

	// Next is the record of the log after the newest unit that the sink has; 0: it has not answered
	// in this process.
	Next uint64
}

// Kept returns about how many bytes of a log a slot has not delivered. stat is of the log.
func (s Standing) Kept(stat eventlog.Stat) int64 { return bytesFrom(stat, s.Next) }

// Standing returns where a slot stands for a gate.
func (s *Streams) Standing(name string) (Standing, error) {
	sl, err := s.slot(name)
	if err != nil {
		return Standing{}, err
	}

	sl.mu.Lock()
	defer sl.mu.Unlock()

	st := Standing{At: sl.file.stands(), Known: sl.answered, Progress: sl.progress, State: sl.file.State,
		Exempt: sl.file.Exempt.After(s.now()), Paused: sl.file.Paused, Degraded: sl.parked.waiting() > 0,
		Lost: sl.file.Lost, Ack: sl.factory.Ack, Cause: sl.file.Last}
	if sl.index > 0 {
		st.Next = sl.index + 1
	}

	return st, nil
}

// ErrBehind is the error of Wait at the end of its context: it says in which state the slot is.
var ErrBehind = errors.New("the sink does not have the block yet")

// Wait waits until a slot has a block, or its filter leaves nothing of it.
func (s *Streams) Wait(ctx context.Context, name string, at Position) error {
	for {
		changed := s.Changed()
		st, err := s.Standing(name)
		if err != nil {
			return err
		}
		if st.Known && !st.At.Empty() && st.At.Position.Compare(at) >= 0 {
			return nil
		}

		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", ErrBehind, st.behind(name, at))
		}
	}
}

// behind says where a slot stands that has not reached a position, and why.
func (s Standing) behind(name string, at Position) string {
	where := "at no height"
	if !s.At.Empty() {
		where = "at height " + s.At.Position.String()
	}
	text := fmt.Sprintf("%s is %s %s, want %s", name, s.State, where, at)
	if s.Cause != nil {
		text += ": " + s.Cause.Text
	}
	return text
}

// Pause stops a slot until Resume. by names the operator.
func (s *Streams) Pause(name, by string) error {
	return s.act(name, Act{What: "pause", By: by}, func(f *slotFile) { f.Paused = true })
}

// Resume starts a paused slot. With takeOver this node becomes the writer of a sink that another
// node writes.
func (s *Streams) Resume(name string, takeOver bool, by string) error {
	what := "resume"
	if takeOver {
		what = "resume --take-over"
	}
	return s.act(name, Act{What: what, By: by}, func(f *slotFile) {
		f.Paused, f.TakeOver = false, f.TakeOver || takeOver
		if f.State == Paused {
			f.State = Starting
		}
	})
}

// Retry makes a slot that waits try again at once.
func (s *Streams) Retry(name, by string) error {
	return s.act(name, Act{What: "retry", By: by}, func(*slotFile) {})
}

// Exempt lifts a slot from the gates until a time; the zero time ends that.
func (s *Streams) Exempt(name string, until time.Time, by string) error {
	return s.act(name, Act{What: "exempt until " + until.UTC().Format(time.RFC3339), By: by},
		func(f *slotFile) { f.Exempt = until })
}

// Lose lets the log go, as a gate's drop does.
func (s *Streams) Lose(name, by string) error {
	return s.act(name, Act{What: "drop by a gate", By: by}, func(f *slotFile) { f.Lost = true })
}

func (s *Streams) act(name string, a Act, f func(*slotFile)) error {
	sl, err := s.slot(name)
	if err != nil {
		return err
	}
	return sl.act(a, f)
}
