package gate

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/coppice-go/coppice/engines/streams"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// R4 and R32: positions of two periods. A lag is counted within a period; no lag reaches over its
// start.
func TestALagIsCountedWithinAPeriod(t *testing.T) {
	at := func(period, height uint64) streams.Position { return streams.Position{Period: period, Height: height} }
	for _, row := range []struct {
		at, block streams.Position
		lag       uint64
		ok        bool
	}{
		{at(0, 9), at(0, 10), 0, true},
		{at(0, 10), at(0, 10), 0, true},
		{at(0, 7), at(0, 10), 2, true},
		{at(0, 0), at(0, 1), 0, true},
		{at(0, 0), at(0, 0), 0, true},
		{at(0, 9), at(1, 24), 0, false},
		{at(1, 23), at(1, 24), 0, true},
		{at(1, 23), at(1, 26), 2, true},
		{at(1, 23), at(0, 10), 0, true}, // of a standby, ahead of this node
	} {
		blocks, ok := lag(row.at, row.block)
		require.Equal(t, row.ok, ok, row)
		require.Equal(t, row.lag, blocks, row)
	}
}

// Section 2, each row: what a sink must be to count, and what lifts it.
func TestWhatCounts(t *testing.T) {
	g := Gate{Name: "g", Sinks: []string{"a"}, OnExceed: Pause}
	has := Sink{Known: true, At: streams.Position{Height: 9}}

	drop := func(g *Gate) { g.OnExceed = Drop }
	lost := func(s *Sink) { s.Lost = true }
	parked := func(s *Sink) { s.Degraded = true }

	for what, row := range map[string]struct {
		gate func(*Gate)
		sink func(*Sink)
		want Verdict
	}{
		"has the block before":        {nil, nil, Pass},
		"lacks it":                    {nil, func(s *Sink) { s.At.Height = 8 }, Wait},
		"may lack it":                 {func(g *Gate) { g.MaxLag = 1 }, func(s *Sink) { s.At.Height = 8 }, Pass},
		"lacks one too many":          {func(g *Gate) { g.MaxLag = 1 }, func(s *Sink) { s.At.Height = 7 }, Wait},
		"R34: has not answered yet":   {nil, func(s *Sink) { s.Known = false }, Wait},
		"R37: is paused":              {nil, func(s *Sink) { s.Paused = true }, Wait},
		"R20: is degraded":            {nil, parked, Wait},
		"accept_degraded":             {func(g *Gate) { g.AcceptDegraded = true }, parked, Pass},
		"is lost":                     {nil, lost, Wait},
		"is lost, and may be dropped": {drop, lost, Pass},
		"the same after a spill":      {func(g *Gate) { g.OnExceed, g.Then = Spill, Drop }, lost, Pass},
		"R37: is exempt":              {nil, func(s *Sink) { s.Paused, s.Exempt = true, noon.Add(1) }, Pass},
		"42: is exempt no more":       {nil, func(s *Sink) { s.Paused, s.Exempt = true, noon }, Wait},
		"drop leaves fewer than n":    {func(g *Gate) { g.OnExceed, g.Need = Drop, 1 }, lost, Wait},
		"exempt makes up the number n": {func(g *Gate) { g.Need = 1 },
			func(s *Sink) { s.Known, s.Exempt = false, noon.Add(1) }, Pass},
	} {
		gate, sink := g, has
		if row.gate != nil {
			row.gate(&gate)
		}
		if row.sink != nil {
			row.sink(&sink)
		}
		d, _ := gate.Decide(State{}, streams.Position{Height: 10}, func(string) Sink { return sink }, noon)
		require.Equal(t, row.want, d.Verdict, what)
	}
}

// model is what a gate may do, said another way than Decide says it: it keeps the whole history.
type model struct {
	gate  Gate
	sinks map[string]*Sink
	now   time.Time
	block uint64

	closed  bool
	missing map[string]time.Time // first decision of the present row of decisions without it
	spills  bool
	spill   Spilled
	spent   bool
}

func (m *model) kept(s *Sink) bool {
	return !(s.Lost && !m.now.Before(s.Exempt) && (m.gate.OnExceed == Drop || m.gate.OnExceed == Spill &&
		m.gate.Then == Drop))
}

// want returns the verdict by the words of section 2.
func (m *model) want() Verdict {
	allowed := m.gate.MaxLag
	if m.closed {
		allowed = m.gate.LowWater
	}

	have, left, dead, most, full := 0, 0, 0, int64(0), false
	for _, name := range m.gate.Sinks {
		s := m.sinks[name]
		if !m.kept(s) {
			delete(m.missing, name)
			continue
		}
		left++

		counts := s.Known && !s.Paused && !s.Lost && (!s.Degraded || m.gate.AcceptDegraded) &&
			s.At.Height+1+allowed >= m.block
		if counts || s.Exempt.After(m.now) {
			have++
			delete(m.missing, name)
			continue
		}

		most, full = max(most, s.Behind), full || s.NoRoom
		if _, ok := m.missing[name]; !ok {
			m.missing[name] = m.now
		}
		quiet := min(m.now.Sub(m.missing[name]), m.now.Sub(s.Progress))
		if m.gate.Timeout > 0 && (quiet >= m.gate.Timeout || s.NoRoom) {
			dead++
		}
	}

	need := m.gate.Need
	if need == 0 {
		need = left
	}
	if have >= need {
		m.closed, m.spills, m.spent = false, false, false
		return Pass
	}

	m.closed = true
	if m.spills && !m.spent {
		if m.now.Sub(m.spill.Since) < m.gate.SpillTime && most-m.spill.From < m.gate.SpillBytes && !full {
			return Pass
		}
		m.spent = true
	}
	if have+left-have-dead >= need {
		return Wait
	}

	act := m.gate.OnExceed
	if m.spent || act == Spill && full {
		act = m.gate.Then
	}

	switch act {
	case Halt:
		return HaltNode
	case Drop:
		if left-dead >= m.gate.Need {
			return DropThem
		}
	case Spill:
		m.spills, m.spill = true, Spilled{Since: m.now, From: most}
		return Pass
	}

	return Wait
}

// Items 1 to 3, 21, 22: a gate does what section 2 says, whatever happens to its sinks; each act at
// its bound and not before it.
func TestTheGateDoesWhatTheModelSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		actions := []Action{Pause, Halt, Drop, Spill}
		m := &model{now: noon, block: 1, missing: make(map[string]time.Time), sinks: make(map[string]*Sink), gate: Gate{
			Name: "g", MaxLag: rapid.Uint64Range(0, 4).Draw(t, "max_lag"), SpillBytes: 100, SpillTime: time.Minute,
			Timeout:  rapid.SampledFrom([]time.Duration{0, time.Second, 30 * time.Second}).Draw(t, "timeout"),
			OnExceed: rapid.SampledFrom(actions).Draw(t, "on_exceed"),
			Then:     rapid.SampledFrom(actions[:3]).Draw(t, "then"), AcceptDegraded: rapid.Bool().Draw(t, "accept"),
		}}
		m.gate.LowWater = rapid.Uint64Range(0, m.gate.MaxLag).Draw(t, "low_water")
		for i := range rapid.IntRange(1, 4).Draw(t, "sinks") {
			name := fmt.Sprint(i)
			m.gate.Sinks = append(m.gate.Sinks, name)
			m.sinks[name] = &Sink{Known: rapid.Bool().Draw(t, "known")}
		}
		m.gate.Need = rapid.IntRange(0, len(m.gate.Sinks)).Draw(t, "n")

		var s State
		sink := func(name string) Sink { return *m.sinks[name] }
		draw := func() *Sink { return m.sinks[rapid.SampledFrom(m.gate.Sinks).Draw(t, "sink")] }

		t.Repeat(map[string]func(*rapid.T){
			"block": func(t *rapid.T) {
				var d Decision
				d, s = m.gate.Decide(s, streams.Position{Height: m.block}, sink, m.now)
				want := m.want()
				require.Equal(t, want, d.Verdict)
				require.Equal(t, m.closed, s.Closed)

				switch want {
				case Pass:
					m.block++
					for _, s := range m.sinks {
						s.Behind += 10
					}
				case DropThem:
					require.NotEmpty(t, d.Expired)
					for _, name := range d.Expired {
						m.sinks[name].Lost = true
					}
				case HaltNode:
					require.NotEmpty(t, d.Expired)
				case Wait:
					require.NotEmpty(t, d.Missing)
					require.True(t, d.Next.IsZero() || d.Next.After(m.now))
				}
			},
			"write": func(t *rapid.T) {
				if x := draw(); x.Known && x.At.Height < m.block-1 {
					x.At.Height++
					x.Progress, x.Behind = m.now, max(0, x.Behind-10)
				}
			},
			"credit":  func(t *rapid.T) { draw().Progress = m.now },
			"open":    func(t *rapid.T) { draw().Known = true },
			"pause":   func(t *rapid.T) { x := draw(); x.Paused = !x.Paused },
			"park":    func(t *rapid.T) { x := draw(); x.Degraded = !x.Degraded },
			"exempt":  func(t *rapid.T) { draw().Exempt = m.now.Add(20 * time.Second) },
			"full":    func(t *rapid.T) { x := draw(); x.NoRoom = !x.NoRoom },
			"lose":    func(t *rapid.T) { x := draw(); x.Lost = !x.Lost },
			"go back": func(t *rapid.T) { x := draw(); x.At.Height = max(x.At.Height, 1) - 1 },
			"time": func(t *rapid.T) {
				m.now = m.now.Add(rapid.SampledFrom([]time.Duration{1, time.Second, 10 * time.Second, time.Minute}).
					Draw(t, "time"))
			},
		})
	})
}
