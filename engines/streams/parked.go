package streams

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/coppice-go/coppice/internal/durable"
)

// ParkedEvent is an event that a slot has put aside. It is a line of the slot's file of parked
// events: data/streams/parked/NAME.jsonl.
type ParkedEvent struct {
	Time    time.Time       `json:"time"`
	Error   string          `json:"error"`
	Event   json.RawMessage `json:"event"`
	Dropped bool            `json:"dropped,omitempty"` // an operator has given it up
}

func parkedPath(dir, name string) string { return filepath.Join(dir, "parked", name+".jsonl") }

// setAside are the events that a slot has put aside, oldest first.
type setAside struct {
	list []ParkedEvent
	at   map[Place]string // why, by place; also of those that were given up
}

// waiting returns how many events were put aside and not given up.
func (p *setAside) waiting() (n int) {
	for _, e := range p.list {
		if !e.Dropped {
			n++
		}
	}
	return n
}

func (p *setAside) add(e ParkedEvent) error {
	event, err := ParseJSON(e.Event)
	if err != nil {
		return err
	}
	if p.at == nil {
		p.at = make(map[Place]string)
	}
	p.list = append(p.list, e)
	p.at[event.Place] = e.Error
	return nil
}

// readParked reads the events that the slot has put aside.
func (sl *slot) readParked() {
	f, err := os.Open(parkedPath(sl.s.o.Data, sl.name))
	if err != nil {
		return
	}
	defer f.Close()

	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return // a torn last line is an event that was not parked yet
		}
		var p ParkedEvent
		if json.Unmarshal(line, &p) == nil {
			_ = sl.parked.add(p) // a line of a newer version is left out
		}
	}
}

// isParked returns the marker that stands in the place of an event.
func (sl *slot) isParked(at Place) (Rejected, bool) {
	sl.mu.Lock()
	defer sl.mu.Unlock()
	why, ok := sl.parked.at[at]
	return Rejected{Err: why}, ok
}

// park puts an event aside, durably. It returns an error if too many were within the window.
func (sl *slot) park(e Event, why error) error {
	sl.mu.Lock()
	defer sl.mu.Unlock()

	now := sl.s.now()
	recent := sl.parkedAt[:0]
	for _, t := range sl.parkedAt {
		if now.Sub(t) < sl.def.ParkWindow {
			recent = append(recent, t)
		}
	}
	if len(recent) >= sl.def.ParkLimit {
		return fmt.Errorf("%d events were parked within %v, the limit: %w", len(recent), sl.def.ParkWindow, why)
	}

	p := ParkedEvent{Time: now, Error: why.Error(), Event: AppendJSON(nil, e)}
	if err := sl.writeParked(append(slices.Clone(sl.parked.list), p)); err != nil {
		return err
	}

	sl.parkedAt = append(recent, now)
	sl.counts.Rejected++

	return nil
}

// writeParked makes a list of parked events durable, and the slot's. The caller holds mu.
func (sl *slot) writeParked(list []ParkedEvent) error {
	var next setAside
	var text bytes.Buffer
	for _, p := range list {
		line, err := json.Marshal(p)
		if err != nil {
			return err
		}
		text.Write(append(line, '\n'))
		if err := next.add(p); err != nil {
			return err
		}
	}

	path := parkedPath(sl.s.o.Data, sl.name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := durable.OS.Replace(path, text.Bytes(), 0o600); err != nil {
		return err
	}
	sl.parked = next

	return nil
}

// Parked returns the events that a slot has put aside, oldest first.
func (s *Streams) Parked(name string) ([]ParkedEvent, error) {
	sl, err := s.slot(name)
	if err != nil {
		return nil, err
	}
	sl.mu.Lock()
	defer sl.mu.Unlock()
	return slices.Clone(sl.parked.list), nil
}

// DropParked gives parked events up: their markers stay in the sink, and the slot is no longer
// degraded because of them. numbers count from 1; none stands for all.
func (s *Streams) DropParked(name string, numbers []int, by string) error {
	sl, err := s.slot(name)
	if err != nil {
		return err
	}

	sl.mu.Lock()
	list := slices.Clone(sl.parked.list)
	for _, n := range numbers {
		if n < 1 || n > len(list) {
			sl.mu.Unlock()
			return fmt.Errorf("%w: %s has %d parked events, there is no number %d", ErrState, name, len(list), n)
		}
		list[n-1].Dropped = true
	}
	for i := range list {
		list[i].Dropped = list[i].Dropped || len(numbers) == 0
	}
	err = sl.writeParked(list)
	waiting := sl.parked.waiting()
	sl.mu.Unlock()
	if err != nil {
		return err
	}

	return sl.act(Act{What: fmt.Sprintf("drop parked events, %d are left", waiting), By: by}, func(f *slotFile) {
		if f.State == Degraded && waiting == 0 {
			f.State = Live
		}
	})
}

// RetryParked delivers the parked events of a paused slot again, without their markers: it removes
// from the sink the units from that of the oldest one on. What is refused again is parked again.
// The cursor only goes back, and then forward with the data.
func (s *Streams) RetryParked(ctx context.Context, name, by string) error {
	sl, err := s.slot(name)
	if err != nil {
		return err
	}

	list, err := s.Parked(name)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(p ParkedEvent) bool { return p.Dropped })
	if len(list) == 0 {
		return fmt.Errorf("%w: %s has no parked events", ErrState, name)
	}
	first := Position{Period: ^uint64(0)}
	for _, p := range list {
		e, err := ParseJSON(p.Event)
		if err != nil {
			return err
		}
		if e.Position.Compare(first) < 0 {
			first = e.Position
		}
	}
	if first.Height == 0 {
		return fmt.Errorf("%w: the oldest parked event is of the start of the chain: rebuild the sink", ErrState)
	}

	return s.rewind(ctx, sl, Position{Period: first.Period, Height: first.Height - 1}, by)
}

// unpark forgets the parked events after a position, so that they are tried again. The caller holds
// mu.
func (sl *slot) unpark(after Position) error {
	left := slices.DeleteFunc(slices.Clone(sl.parked.list), func(p ParkedEvent) bool {
		e, err := ParseJSON(p.Event)
		return err == nil && e.Position.Compare(after) > 0
	})
	if len(left) == len(sl.parked.list) {
		return nil
	}
	return sl.writeParked(left)
}
