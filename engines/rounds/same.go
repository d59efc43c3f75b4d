package rounds

import "context"

// act is the behaviour that the round types share.
type act[S, P any] func(context.Context, S) (P, error)

// Act returns the payload of what the function returned.
func (f act[S, P]) Act(ctx context.Context, s S) ([]byte, error) {
	value, err := f(ctx, s)
	if err != nil {
		return nil, err
	}
	if e, ok := any(value).(interface{ Empty() bool }); ok && e.Empty() {
		return nil, nil
	}
	return Encode(value)
}

type same[S, P any] struct {
	act[S, P]
	done func(S, P) S
}

// Same is a round in which t agents must send the same payload. It ends with
//   - Done if t payloads are equal and not empty; done then makes the state of the next round,
//   - None if t payloads are empty,
//   - NoMajority exactly when neither can happen any more: the agents that may still speak and the
//     largest group together are fewer than t.
//
// do is the behaviour of an agent; a value with a method Empty that returns true is sent as the
// empty payload. Equal means equal bytes.
func Same[S, P any](do func(context.Context, S) (P, error), done func(S, P) S) Round[S] {
	return same[S, P]{do, done}
}

func (same[S, P]) Events() []Event { return []Event{Done, None, NoMajority} }

func (same[S, P]) Admit(_ Poll, _ S, v Vote) error { return wellFormed[P](v.Payload) }

func (r same[S, P]) End(p Poll, s S) Outcome[S] {
	payload, votes := p.Largest()

	switch {
	case votes >= p.Agents.Threshold && len(payload) > 0:
		return Outcome[S]{Event: Done, State: r.done(s, must[P](payload))}
	case votes >= p.Agents.Threshold:
		return Outcome[S]{Event: None, State: s}
	case outOfReach(p, votes):
		return Outcome[S]{Event: NoMajority, State: s}
	default:
		return Outcome[S]{}
	}
}

// outOfReach reports whether no group can reach the threshold any more, if the largest one has so
// many votes.
func outOfReach(p Poll, votes int) bool { return p.MaySpeak()+votes < p.Agents.Threshold }

type sameUntilAll[S, P any] struct {
	act[S, P]
	done func(S, P) S
}

// SameUntilAll is a round in which every accepted agent must send the same payload. A payload
// unlike the first is refused with Differs. It ends with Done when all have sent.
//
// It is not Byzantine-safe: one silent agent, or one that is first with a false value, stops it
// until a timeout.
func SameUntilAll[S, P any](do func(context.Context, S) (P, error), done func(S, P) S) Round[S] {
	return sameUntilAll[S, P]{do, done}
}

func (sameUntilAll[S, P]) Events() []Event { return []Event{Done} }

func (sameUntilAll[S, P]) Admit(p Poll, _ S, v Vote) error {
	if len(v.Payload) == 0 {
		return Malformed
	}
	if err := wellFormed[P](v.Payload); err != nil {
		return err
	}
	if len(p.Votes) > 0 && string(p.Votes[0].Payload) != string(v.Payload) {
		return Differs
	}
	return nil
}

func (r sameUntilAll[S, P]) End(p Poll, s S) Outcome[S] {
	if len(p.Votes) == 0 || p.MaySpeak() > 0 {
		return Outcome[S]{}
	}
	return Outcome[S]{Event: Done, State: r.done(s, must[P](p.Votes[0].Payload))}
}
