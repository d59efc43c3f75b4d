package rounds

import (
	"context"
	"time"
)

// Turn is what an agent may say now: a payload of one round that it has not sent yet.
type Turn[S any] struct {
	Name  string // of the round, or the label of the background round
	Label string // its payload carries it
	Count uint64

	// Act is the behaviour: it does any I/O and returns the payload. It is nil if EndsPeriod is
	// set: the payload is then the number of the period, after the pause.
	Act        func(context.Context, S) ([]byte, error)
	EndsPeriod bool
}

// Turns returns the turns of an agent: of the current round first, and then of the background
// rounds. A round has none for an agent that it does not accept or that has spoken, for an agent
// that is not its keeper, and after a function of the app has panicked in it.
func (m Machine[S]) Turns(st State[S], a Agent) (turns []Turn[S]) {
	place := m.Service.places[st.Round]
	if place.app != nil {
		t := Turn[S]{Name: string(st.Round), Label: place.app.Label, Count: st.Count}
		if m.mayAct(&t, place.inner, m.poll(st, st.Ballot, place.rejoins), st, st.Ballot, a) {
			turns = append(turns, t)
		}
	}

	for i, b := range m.Service.backgrounds {
		if !m.mayStart(st, b) || i >= len(st.Sides) {
			continue
		}
		round, rejoins := kind(b.Round)
		t := Turn[S]{Name: b.Label, Label: b.Label, Count: st.Sides[i].Count}
		if m.mayAct(&t, round, m.poll(st, st.Sides[i].Ballot, rejoins), st, st.Sides[i].Ballot, a) {
			turns = append(turns, t)
		}
	}

	return turns
}

// mayAct completes the turn of an agent in a round, and reports whether there is one.
func (m Machine[S]) mayAct(t *Turn[S], round Round[S], p Poll, st State[S], b Ballots, a Agent) bool {
	if b.Broken || !p.Accepts(a) || p.Spoke(a) {
		return false
	}
	if _, ends := round.(endPeriod[S]); ends {
		t.EndsPeriod = true
		return true
	}

	behaviour, acts := round.(Behaviour[S])
	if !acts {
		return false
	}

	t.Act = behaviour.Act
	who, one, ok := m.keeperOf(round, st)
	return ok && (!one || who == a)
}

// keeperOf returns the keeper of a round that has one. ok is false if the app cannot tell.
func (m Machine[S]) keeperOf(round Round[S], st State[S]) (who Agent, one, ok bool) {
	var r Report
	_, ok = guarded(&Failed{}, &r, func() struct{} {
		who, one = KeeperOf(round, m.Service.copied(st.App))
		return struct{}{}
	})
	return who, one, ok
}

// PauseEnds returns the block time at which the pause between two periods is over; ok is false if
// the current round does not end a period. Its timeout tells when the round was entered.
func (s *Service[S]) PauseEnds(st State[S]) (t time.Time, ok bool) {
	if s.period == nil {
		return t, false
	}
	for _, d := range st.Deadlines {
		if d.Event == ResetTimeout {
			return d.At.Add(-resetSlack), true
		}
	}
	return t, false
}
