package rounds

import (
	"context"
	"slices"
)

// Vote is one admitted payload of the current round.
type Vote struct {
	Agent   Agent  `json:"agent"`
	Payload []byte `json:"payload,omitempty"` // canonical JSON of the round's payload type; empty means nothing
}

// Poll is what a round knows of its agents: who may speak, and the payloads that were admitted
// since the round was entered.
type Poll struct {
	Agents       Agents
	Participants []Agent // sorted: the agents that the last registration admitted
	Rejoin       bool    // the round accepts every registered agent
	Votes        []Vote  // in the order of their admission
	Waited       int     // see Outcome
}

// Accepts reports whether the round takes payloads of a.
func (p Poll) Accepts(a Agent) bool {
	if p.Rejoin {
		return p.Agents.Has(a)
	}
	_, found := slices.BinarySearch(p.Participants, a)
	return found && p.Agents.Has(a)
}

// Accepted returns the number of agents that the round takes payloads of.
func (p Poll) Accepted() int {
	if p.Rejoin {
		return len(p.Agents.Registered)
	}

	n := 0
	for _, a := range p.Participants {
		if p.Agents.Has(a) {
			n++
		}
	}
	return n
}

// Spoke reports whether a payload of a has been admitted.
func (p Poll) Spoke(a Agent) bool {
	return slices.ContainsFunc(p.Votes, func(v Vote) bool { return v.Agent == a })
}

// MaySpeak returns the number of agents that are accepted and have not spoken.
func (p Poll) MaySpeak() int { return p.Accepted() - len(p.Votes) }

// Reached reports whether as many agents as the threshold have spoken.
func (p Poll) Reached() bool { return len(p.Votes) >= p.Agents.Threshold }

// Largest returns the payload that most agents sent, and their number. Of equals it is the one that
// was sent first.
func (p Poll) Largest() (payload []byte, votes int) {
	counts := map[string]int{}
	for _, v := range p.Votes {
		counts[string(v.Payload)]++
	}

	for _, v := range p.Votes { // not over the map: its order differs from node to node
		if n := counts[string(v.Payload)]; n > votes {
			payload, votes = v.Payload, n
		}
	}
	return payload, votes
}

// Outcome is what a round says at the end of a block.
type Outcome[S any] struct {
	Event Event // empty: the round goes on
	State S     // the service's state, if Event is set

	// Waited is kept for the round's next call if the round goes on. A round that does not count
	// blocks returns what it got.
	Waited int

	// Participants, if set, are the agents of the rounds that follow.
	Participants []Agent

	// Period says that a new period begins: the period's number rises, and of State only what the
	// table's Keep returns outlives it.
	Period bool
}

// Round is a type of round. Its methods are pure: they depend on their arguments only, and change
// none of them.
type Round[S any] interface {
	// Events returns the events that the round can emit.
	Events() []Event

	// Admit returns nil if payload v of an accepted agent that has not spoken counts, and otherwise
	// a Reason.
	Admit(p Poll, s S, v Vote) error

	// End judges the round at the end of a block. s is a copy that End may change.
	End(p Poll, s S) Outcome[S]
}

// Behaviour is a Round whose agents act: Act does any I/O and returns the payload to send. Act of a
// round without payloads is not called.
type Behaviour[S any] interface {
	Act(ctx context.Context, s S) (payload []byte, err error)
}
