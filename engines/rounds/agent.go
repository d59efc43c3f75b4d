package rounds

import (
	"fmt"
	"slices"
)

// Agent is the name of one party of a service. An agent signs its payloads with a key of its own,
// which is not a validator's key.
type Agent string

// Agents are the registered agents of a service and the number of them that must agree.
type Agents struct {
	Registered []Agent // sorted, without duplicates
	Threshold  int     // t: between ⌈(2n+1)/3⌉ and n
}

// NewAgents returns the registered agents with the threshold t. A t of 0 means ⌈(2n+1)/3⌉, the
// smallest that tolerates ⌊(n−1)/3⌋ Byzantine agents. NewAgents returns an error if there is no
// agent, if a name is empty or stands twice, or if t is outside its limits.
func NewAgents(t int, names ...Agent) (Agents, error) {
	sorted := slices.Sorted(slices.Values(names))
	n := len(sorted)
	if n == 0 {
		return Agents{}, fmt.Errorf("agents: none is registered")
	}

	for i, a := range sorted {
		if a == "" {
			return Agents{}, fmt.Errorf("agents: a name is empty")
		}
		if i > 0 && a == sorted[i-1] {
			return Agents{}, fmt.Errorf("agents: %q is registered twice", a)
		}
	}

	least := Quorum(n)
	if t == 0 {
		t = least
	}
	if t < least || t > n {
		return Agents{}, fmt.Errorf("agents: threshold %d of %d agents: expected %d to %d", t, n, least, n)
	}

	return Agents{Registered: sorted, Threshold: t}, nil
}

// Quorum returns ⌈(2n+1)/3⌉: the number of n agents that must agree, by heads and not by power.
func Quorum(n int) int { return (2*n + 3) / 3 }

// Has reports whether a is registered.
func (a Agents) Has(name Agent) bool {
	_, found := slices.BinarySearch(a.Registered, name)
	return found
}
