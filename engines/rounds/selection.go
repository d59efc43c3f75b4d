package rounds

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// ChooseKeeper returns the keeper that a seed chooses of the agents that are not on the blacklist.
// If all are, it chooses of all: a service with a bad keeper is better than one without. The choice
// depends on the set of agents and not on their order.
func ChooseKeeper(agents []Agent, seed []byte, blacklist []Agent) Agent {
	sorted := slices.Sorted(slices.Values(agents))
	fit := slices.DeleteFunc(slices.Clone(sorted), func(a Agent) bool { return slices.Contains(blacklist, a) })
	if len(fit) == 0 {
		fit = sorted
	}
	if len(fit) == 0 {
		return ""
	}

	sum := sha256.Sum256(seed)
	return fit[binary.BigEndian.Uint64(sum[:8])%uint64(len(fit))]
}

type selection[S any] struct {
	same[S, string]
	blacklist func(S) []Agent
	chosen    func(S, Agent) S
}

// SelectKeeper is a round in which t agents agree on a seed, which chooses the keeper of the
// participants. The seed is a payload, and not the hash of a block, which a proposer could choose.
// blacklist names agents that are passed over; it may be nil. The events are those of Same.
func SelectKeeper[S any](seed func(context.Context, S) (string, error), blacklist func(S) []Agent,
	chosen func(S, Agent) S,
) Round[S] {
	return selection[S]{same[S, string]{act: seed}, blacklist, chosen}
}

func (r selection[S]) End(p Poll, s S) Outcome[S] {
	seed, _ := p.Largest()
	r.done = func(s S, _ string) S {
		var blacklist []Agent
		if r.blacklist != nil {
			blacklist = r.blacklist(s)
		}
		return r.chosen(s, ChooseKeeper(p.Participants, seed, blacklist))
	}
	return r.same.End(p, s)
}
