package gate

import (
	"time"

	"github.com/coppice-go/coppice/engines/streams"
)

// Action is what a gate does once its sinks have made no progress for its timeout.
type Action string

// The actions.
const (
	Pause Action = "pause" // the block waits on
	Halt  Action = "halt"  // the node stops in order
	Drop  Action = "drop"  // the slots of the sinks are lost, and the gate goes on with the others
	Spill Action = "spill" // blocks pass while the log keeps more, up to a bound
)

// Gate is the definition of a gate: a table of gates.toml.
type Gate struct {
	Name  string
	Sinks []string // names of slots

	// Need is how many of Sinks must have the blocks before; 0 stands for all of them.
	Need int

	// MaxLag is how many of the blocks before the sinks may lack. Once a block has waited, they may
	// lack only LowWater, until one passes.
	MaxLag, LowWater uint64

	// Timeout is the time without progress of a sink that a block waits for, after which OnExceed
	// acts; 0 stands for never.
	Timeout  time.Duration
	OnExceed Action

	// SpillBytes and SpillTime bound a spill: what the log keeps more than at its beginning, and
	// how long it lasts. Then acts when one of them is reached.
	SpillBytes int64
	SpillTime  time.Duration
	Then       Action

	// Ack is the least that an acknowledgment of a sink must mean.
	Ack streams.AckLevel

	// AcceptDegraded makes a sink count that has parked events.
	AcceptDegraded bool
}

// drops reports whether the gate may go on without sinks that are lost.
func (g Gate) drops() bool { return g.OnExceed == Drop || g.OnExceed == Spill && g.Then == Drop }
