package gate

import (
	"maps"
	"time"

	"github.com/coppice-go/coppice/engines/streams"
)

// State is what a gate remembers from one decision to the next. The zero value is a gate at the
// start of a process.
type State struct {
	// Closed is set once a block has had to wait, until the sinks are level with LowWater.
	Closed bool

	// Missing says since when a block has lacked each sink.
	Missing map[string]time.Time

	Spilling Spilled
}

// Spilled is a spill under way. The zero value is none.
type Spilled struct {
	Since time.Time `json:"since"`
	From  int64     `json:"from"`  // what the log kept then, in bytes
	Spent bool      `json:"spent"` // a bound was reached, and Gate.Then acts
}

// Verdict is what becomes of a block.
type Verdict int

// The verdicts.
const (
	Pass     Verdict = iota + 1
	Wait             // look again when a sink changes, and at Decision.Next
	DropThem         // drop Decision.Expired, and look again
	HaltNode
)

// Decision is the decision of one gate about a block.
type Decision struct {
	Verdict  Verdict
	Missing  []string // the sinks without the block, if the gate lacks any
	Expired  []string // those of them that have made no progress for the timeout
	Exceeded bool     // the block waits because of Pause
	Next     time.Time
}

// Decide returns what becomes of the block at b, and the state of the gate after the decision. look
// returns a sink; it depends on nothing but its argument. Decide has no effects.
func (g Gate) Decide(s State, b streams.Position, look func(name string) Sink, now time.Time) (Decision, State) {
	q := g.count(s, b, look, now)
	s.Missing = q.since

	if q.have >= q.need {
		return Decision{Verdict: Pass}, State{Missing: s.Missing}
	}
	if q.left < q.need {
		q.missing = append(q.missing, q.lost...)
	}

	s.Closed = true
	d := Decision{Verdict: Wait, Missing: q.missing, Expired: q.expired, Next: q.next}

	if spill := s.Spilling; !spill.Since.IsZero() && !spill.Spent {
		end := spill.Since.Add(g.SpillTime)
		if now.Before(end) && q.behind-spill.From < g.SpillBytes && !q.noRoom {
			d.Verdict, d.Next = Pass, end
			return d, s
		}
		s.Spilling.Spent = true
	}

	// Sinks that are slow but not dead may still make up the number.
	if q.have+q.coming >= q.need {
		return d, s
	}

	act := g.OnExceed
	if s.Spilling.Spent || act == Spill && q.noRoom {
		act = g.Then
	}

	switch {
	case act == Halt:
		d.Verdict = HaltNode
	case act == Drop && q.left-len(q.expired) >= g.Need:
		d.Verdict = DropThem
	case act == Spill:
		s.Spilling = Spilled{Since: now, From: q.behind}
		d.Verdict, d.Next = Pass, now.Add(g.SpillTime)
	default:
		d.Exceeded = true
	}

	return d, s
}

// quorum says how a gate's sinks stand.
type quorum struct {
	left, need, have int
	coming           int // missing and not expired
	missing, expired []string
	lost             []string             // given up, and not in left
	since            map[string]time.Time // of the missing
	behind           int64                // the most that the log keeps for one of the missing
	noRoom           bool                 // for more of the log
	next             time.Time            // when the next of the missing expires; zero: none does
}

func (g Gate) count(s State, b streams.Position, look func(string) Sink, now time.Time) (q quorum) {
	q.since = maps.Clone(s.Missing)
	if q.since == nil {
		q.since = make(map[string]time.Time)
	}

	limit := g.MaxLag
	if s.Closed {
		limit = g.LowWater
	}

	for _, name := range g.Sinks {
		sink := look(name)
		exempt := now.Before(sink.Exempt)
		if sink.Lost && !exempt && g.drops() {
			q.lost = append(q.lost, name)
			delete(q.since, name)
			continue
		}

		q.left++
		if exempt || g.has(sink, b, limit) {
			q.have++
			delete(q.since, name)
			continue
		}
		g.miss(&q, name, sink, now)
	}

	if q.need = g.Need; q.need == 0 {
		q.need = q.left
	}

	return q
}

// miss counts a missing sink.
func (g Gate) miss(q *quorum, name string, sink Sink, now time.Time) {
	q.missing = append(q.missing, name)
	q.behind = max(q.behind, sink.Behind)
	q.noRoom = q.noRoom || sink.NoRoom

	last, known := q.since[name]
	if !known {
		last = now
		q.since[name] = now
	}
	if g.Timeout == 0 {
		q.coming++
		return
	}
	if sink.Progress.After(last) {
		last = sink.Progress
	}

	end := last.Add(g.Timeout)
	if sink.NoRoom || !end.After(now) {
		q.expired = append(q.expired, name)
		return
	}
	q.coming++
	q.next = sooner(q.next, end)
}

// has reports whether a sink lacks at most limit of the blocks before b, and counts.
func (g Gate) has(sink Sink, b streams.Position, limit uint64) bool {
	if !sink.Known || sink.Paused || sink.Lost || sink.Degraded && !g.AcceptDegraded {
		return false
	}
	behind, ok := lag(sink.At, b)
	return ok && behind <= limit
}

// lag returns how many of the blocks before b a sink at a position lacks. ok is false if the sink
// lacks the start of the period of b: what lies between two periods is not counted, and no lag
// allows it.
func lag(at, b streams.Position) (blocks uint64, ok bool) {
	switch {
	case at.Period > b.Period:
		return 0, true
	case at.Period < b.Period:
		return 0, false
	case b.Height <= at.Height+1:
		return 0, true
	}
	return b.Height - 1 - at.Height, true
}
