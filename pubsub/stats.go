package pubsub

import (
	"cmp"
	"slices"
)

// Stats is the state of the bus at one moment, for operators.
type Stats struct {
	Incarnation uint64 // counts from 1; 0 before the first start
	Err         error  // why the bus is down; nil while it is up
	Broker      AgentStats
	Agents      []AgentStats // by chain
}

// AgentStats is the state of one agent, or of the broker. Missed, Delivered and Dropped count
// events since its start.
type AgentStats struct {
	ID          string // of the child in the tree: broker, or a child of filters
	Chain       string // text form; empty for the broker, which matches every event
	Subscribers int    // of exactly this chain
	Waiting     int    // events in its mailbox
	Missed      uint64 // dropped because its mailbox was full
	Delivered   uint64 // put into the buffers of its subscribers
	Dropped     uint64 // dropped from those buffers, or before them, by Block and DropOldest
}

// Stats returns the state of the bus at once, whatever the bus is doing. The figures of two agents
// need not be of the same instant. While the bus is down, they are those of the last incarnation.
func (b *Bus[E]) Stats() Stats {
	b.mu.Lock()
	in, err := b.current, b.standing.Load().err
	b.mu.Unlock()

	if in == nil {
		return Stats{Err: err, Broker: AgentStats{ID: brokerID}}
	}

	stats := Stats{Incarnation: in.number, Err: err, Broker: in.broker.stats()}
	for _, a := range in.running() {
		stats.Agents = append(stats.Agents, a.stats())
	}

	slices.SortFunc(stats.Agents, func(a, b AgentStats) int { return cmp.Compare(a.Chain, b.Chain) })

	return stats
}

func (in *incarnation[E]) running() []*agent[E] {
	in.mu.Lock()
	defer in.mu.Unlock()
	agents := make([]*agent[E], 0, len(in.agents))
	for a := range in.agents {
		agents = append(agents, a)
	}
	return agents
}

func (a *agent[E]) stats() AgentStats {
	waiting, missed := a.in.state()
	return AgentStats{
		ID:          a.id,
		Chain:       a.chain.String(),
		Subscribers: int(a.subscribers.Load()),
		Waiting:     waiting,
		Missed:      missed,
		Delivered:   a.delivered.Load(),
		Dropped:     a.dropped.Load(),
	}
}
