package rounds

import "context"

// Said is the value that one agent sent. Empty says that it sent nothing; Value is then zero.
type Said[P any] struct {
	Agent Agent
	Value P
	Empty bool
}

// said returns the admitted payloads, decoded, in the order of their admission.
func said[P any](p Poll) []Said[P] {
	out := make([]Said[P], len(p.Votes))
	for i, v := range p.Votes {
		out[i] = Said[P]{Agent: v.Agent, Empty: len(v.Payload) == 0}
		if !out[i].Empty {
			out[i].Value = must[P](v.Payload)
		}
	}
	return out
}

type different[S, P any] struct {
	act[S, P]
	wait     int
	all      bool // every accepted agent must have sent, not only t
	nonEmpty bool
	done     func(S, []Said[P]) S
}

// Different is a round in which agents send values of their own. It ends with Done in the k-th
// block after the one in which t agents had sent (k = 0: in that block). Payloads that come until
// then count, and equal values are fine. It has no NoMajority: give it a timeout.
//
// done gets what was sent, in the order of the blocks.
func Different[S, P any](k int, do func(context.Context, S) (P, error), done func(S, []Said[P]) S) Round[S] {
	return different[S, P]{act: do, wait: k, done: done}
}

// NonEmpty is Different with a second end: None if every payload is empty. done gets the empty
// ones, too, each under its agent's name.
func NonEmpty[S, P any](k int, do func(context.Context, S) (P, error), done func(S, []Said[P]) S) Round[S] {
	return different[S, P]{act: do, wait: k, nonEmpty: true, done: done}
}

// DifferentUntilAll is a round in which every accepted agent must send a value of its own. It ends
// with Done when all have sent. It is not Byzantine-safe: one silent agent stops it until a
// timeout.
func DifferentUntilAll[S, P any](do func(context.Context, S) (P, error), done func(S, []Said[P]) S) Round[S] {
	return different[S, P]{act: do, all: true, done: done}
}

func (r different[S, P]) Events() []Event {
	if r.nonEmpty {
		return []Event{Done, None}
	}
	return []Event{Done}
}

func (different[S, P]) Admit(_ Poll, _ S, v Vote) error { return wellFormed[P](v.Payload) }

func (r different[S, P]) End(p Poll, s S) Outcome[S] {
	if !p.Reached() || r.all && p.MaySpeak() > 0 {
		return Outcome[S]{}
	}
	if p.Waited < r.wait {
		return Outcome[S]{Waited: p.Waited + 1}
	}

	values := said[P](p)
	if r.nonEmpty && allEmpty(values) {
		return Outcome[S]{Event: None, State: s}
	}
	return Outcome[S]{Event: Done, State: r.done(s, values)}
}

func allEmpty[P any](values []Said[P]) bool {
	for _, v := range values {
		if !v.Empty {
			return false
		}
	}
	return true
}
