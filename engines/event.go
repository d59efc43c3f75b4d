package engines

import (
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/supervisor"
)

// Event is what the event bus carries: a RecordLogged or a TreeChanged. It only says that something
// has happened. A subscriber that needs the record itself, or missed events, reads the log.
type Event interface{ isEvent() }

// RecordLogged: a record has become durable.
type RecordLogged struct {
	Index uint64
	Kind  eventlog.Kind
	Size  int // of the record's data, in bytes
}

// TreeChanged: something happened in the supervision tree.
type TreeChanged struct{ Event supervisor.Event }

func (RecordLogged) isEvent() {}
func (TreeChanged) isEvent()  {}
