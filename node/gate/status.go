package gate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
)

// Phase says what a gate is doing.
type Phase string

// The phases of a gate.
const (
	Open    Phase = "open"     // blocks pass, or have waited for less than HeldAfter without progress
	Held    Phase = "held"     // a block waits without progress
	Spills  Phase = "spilling" // blocks pass, and the log keeps more
	Halting Phase = "halting"  // the node stops, because of the gate
)

// Status says what a gate is doing, and why.
type Status struct {
	Gate   string
	Phase  Phase
	Since  time.Time // of the phase; zero: the start of the process
	Height uint64    // of the block that waits; 0: none does
	Sinks  []Missing // that keep it; empty unless it is held or spills
	Exempt []string  // sinks whose gates an operator has lifted
}

// Missing is a sink without the block before the one that waits.
type Missing struct {
	Name   string
	State  string // of the slot
	Known  bool   // the sink has said where it stands
	Height uint64 // where it stands
}

// String returns the status in one line, for people.
func (s Status) String() string {
	var sinks []string
	for _, m := range s.Sinks {
		at := ""
		if m.Known {
			at = fmt.Sprintf(", at height %d", m.Height)
		}
		sinks = append(sinks, fmt.Sprintf("%s (%s%s)", m.Name, m.State, at))
	}

	switch s.Phase {
	case Held:
		return fmt.Sprintf("gate %s holds block %d, waiting for %s", s.Gate, s.Height, strings.Join(sinks, ", "))
	case Spills:
		return fmt.Sprintf("gate %s lets blocks pass without %s, and the log keeps them", s.Gate,
			strings.Join(sinks, ", "))
	}
	return fmt.Sprintf("gate %s is %s", s.Gate, s.Phase)
}

// Statuses returns the status of each gate. It does not wait.
func (g *Gates) Statuses() (list []Status) {
	g.mu.Lock()
	defer g.mu.Unlock()

	now := time.Now()
	for _, at := range g.gates {
		s, _ := g.status(at, now)
		list = append(list, s)
	}

	return list
}

// Held returns the status of the gates that hold a block. It does not wait.
func (g *Gates) Held() (list []Status) {
	return slices.DeleteFunc(g.Statuses(), func(s Status) bool { return s.Phase != Held })
}

// status returns the status of a gate, and when it will be held if nothing changes. The caller
// holds mu.
func (g *Gates) status(at *one, now time.Time) (s Status, held time.Time) {
	s = Status{Gate: at.Name, Phase: Open, Since: at.since}
	for _, name := range at.Sinks {
		if now.Before(g.sink(name).Exempt) {
			s.Exempt = append(s.Exempt, name)
		}
	}

	if spill := at.state.Spilling; !spill.Since.IsZero() && !spill.Spent {
		s.Phase, s.Since = Spills, spill.Since
		for _, name := range at.Sinks {
			if _, missing := at.state.Missing[name]; missing {
				s.Sinks = append(s.Sinks, g.missing(name))
			}
		}
	}

	for _, w := range g.waits {
		d, waits := w.of[at.Name]
		if !waits {
			continue
		}

		from := w.began
		for _, name := range d.Missing {
			if p := g.sink(name).Progress; p.After(from) {
				from = p
			}
		}

		switch held = from.Add(HeldAfter); {
		case d.Verdict == HaltNode:
			s.Phase = Halting
		case held.After(now):
			continue
		default:
			s.Phase = Held
		}

		s.Since, s.Height, s.Sinks = from, w.at.Height, nil
		for _, name := range d.Missing {
			s.Sinks = append(s.Sinks, g.missing(name))
		}
		break
	}

	return s, held
}

func (g *Gates) missing(name string) Missing {
	s := g.sink(name)
	m := Missing{Name: name, State: s.State, Known: s.Known}
	if s.Known {
		m.Height = s.At.Height
	}
	return m
}

// tell reports the gates whose phase has changed. next is when a gate will be held if nothing
// changes; ok is false if none will. The caller holds looking.
func (g *Gates) tell() (next time.Time, ok bool) {
	var news []Status
	now := time.Now()

	g.mu.Lock()
	for _, at := range g.gates {
		s, held := g.status(at, now)
		if held.After(now) {
			next = sooner(next, held)
		}
		if s.Phase != at.told {
			at.told, at.since = s.Phase, now
			news = append(news, s)
		}
	}
	g.mu.Unlock()

	for _, s := range news {
		if s.Phase == Open {
			g.o.Diagnostics.Info(s.String())
		} else {
			g.o.Diagnostics.Warn(s.String(), zap.String("gate", s.Gate), zap.Uint64("height", s.Height))
		}
		g.o.Changed(s)
	}

	return next, !next.IsZero()
}
