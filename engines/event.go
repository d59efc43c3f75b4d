package engines

import (
	"time"

	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/supervisor"
)

// Event is what the event bus carries: a RecordLogged, a TreeChanged, a ReadinessChanged, a
// ProcessChanged or a GateChanged. It only says that something has happened. A subscriber that
// needs the record itself, or missed events, reads the log.
type Event interface{ isEvent() }

// RecordLogged: a record has become durable.
type RecordLogged struct {
	Index uint64
	Kind  eventlog.Kind
	Size  int // of the record's data, in bytes
}

// TreeChanged: something happened in the supervision tree.
type TreeChanged struct{ Event supervisor.Event }

// ReadinessChanged: the node has become ready, or is ready no more, or for another reason.
type ReadinessChanged struct {
	Ready  bool
	State  string // of consensus.Readiness
	Reason string // empty if Ready, unless the chain is in hold
	Since  time.Time
}

// GateChanged: a gate holds a block, spills, halts the node, or is open again.
type GateChanged struct {
	Gate   string
	Phase  string   // "open", "held", "spilling" or "halting"
	Height uint64   // of the block that waits; 0: none does
	Sinks  []string // that keep it, or that it goes on without
}

func (GateChanged) isEvent() {}

// ProcessChanged: the node has started, restarted or reset the process of its consensus, or found
// something out about it.
type ProcessChanged struct {
	State            string // of the machine that does so; docs/manager.md lists the states
	Text             string
	At, Since        time.Time // of the change, and of the state
	Restarts, Resets int       // that nobody asked for, and that succeeded
}

func (ProcessChanged) isEvent()   {}
func (ReadinessChanged) isEvent() {}
func (RecordLogged) isEvent()     {}
func (TreeChanged) isEvent()      {}
