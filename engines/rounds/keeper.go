package rounds

import "context"

type keeper[S, P any] struct {
	act[S, P]
	who  func(S) Agent
	done func(S, P) S
}

// Keeper is a round in which one agent speaks: the keeper that who names. It ends with Done on the
// keeper's payload, or with Fail if that is empty. If the keeper is silent, only a timeout helps.
func Keeper[S, P any](who func(S) Agent, do func(context.Context, S) (P, error), done func(S, P) S) Round[S] {
	return keeper[S, P]{do, who, done}
}

func (keeper[S, P]) Events() []Event { return []Event{Done, Fail} }

func (r keeper[S, P]) Admit(_ Poll, s S, v Vote) error {
	if r.who(s) != v.Agent {
		return NotKeeper
	}
	return wellFormed[P](v.Payload)
}

func (r keeper[S, P]) End(p Poll, s S) Outcome[S] {
	switch {
	case len(p.Votes) == 0:
		return Outcome[S]{}
	case len(p.Votes[0].Payload) == 0:
		return Outcome[S]{Event: Fail, State: s}
	default:
		return Outcome[S]{Event: Done, State: r.done(s, must[P](p.Votes[0].Payload))}
	}
}

// KeeperOf returns the agent whose behaviour speaks in round r, if r is a Keeper round. The others
// need not act.
func KeeperOf[S any](r Round[S], s S) (Agent, bool) {
	if k, ok := r.(interface{ keeper(S) Agent }); ok {
		return k.keeper(s), true
	}
	return "", false
}

func (r keeper[S, P]) keeper(s S) Agent { return r.who(s) }
