package rounds

import "context"

// Ballot is the payload of a Voting round.
type Ballot string

// The ballots.
const (
	Yes     Ballot = "yes"
	No      Ballot = "no"
	Abstain Ballot = "abstain"
)

var endsOfBallots = map[Ballot]Event{Yes: Done, No: Negative, Abstain: None}

type voting[S any] struct {
	act[S, Ballot]
	done func(S, Event) S
}

// Voting is a round in which agents say yes, no or abstain. It ends with Done, Negative or None
// when t ballots are equal, and with NoMajority as Same does. done gets the event; it may be nil.
func Voting[S any](do func(context.Context, S) (Ballot, error), done func(S, Event) S) Round[S] {
	return voting[S]{do, done}
}

func (voting[S]) Events() []Event { return []Event{Done, Negative, None, NoMajority} }

func (voting[S]) Admit(_ Poll, _ S, v Vote) error {
	ballot, err := Decode[Ballot](v.Payload)
	if err != nil || endsOfBallots[ballot] == "" {
		return Malformed
	}
	return nil
}

func (r voting[S]) End(p Poll, s S) Outcome[S] {
	payload, votes := p.Largest()
	event := NoMajority
	switch {
	case votes >= p.Agents.Threshold:
		event = endsOfBallots[must[Ballot](payload)]
	case !outOfReach(p, votes):
		return Outcome[S]{}
	}

	if r.done != nil {
		s = r.done(s, event)
	}
	return Outcome[S]{Event: event, State: s}
}
