package engines

import (
	"time"

	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/supervisor"
)

// Event is what the event bus carries: a RecordLogged, a TreeChanged or a ReadinessChanged. It only
// says that something has happened. A subscriber that needs the record itself, or missed events,
// reads the log.
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
	Reason string // empty if Ready
	Since  time.Time
}

func (ReadinessChanged) isEvent() {}
func (RecordLogged) isEvent()     {}
func (TreeChanged) isEvent()      {}
