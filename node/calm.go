package node

import (
	"go.uber.org/zap"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/zapevents"
)

// calm writes the events of the tree to the diagnostics, without the many of an orderly start and
// stop: the node itself says that it is ready, and that it has stopped. Starts are written once the
// whole tree has run, because they are then restarts. At the level debug, calm writes all events.
type calm struct {
	log  *zap.Logger
	next supervisor.Observer
	up   bool // the whole tree has run
}

func newCalm(log *zap.Logger) *calm { return &calm{log: log, next: zapevents.New(log)} }

// Observe takes an event of the tree (see supervisor.Observer). The calls come one at a time.
func (c *calm) Observe(e supervisor.Event) {
	orderly := false

	switch e := e.(type) {
	case supervisor.ChildStarted:
		orderly = !c.up
	case supervisor.SupervisorStarted:
		orderly = !c.up
		c.up = c.up || e.Path == "" // the root starts last
	case supervisor.SupervisorStopped:
		orderly = true // the reason of any other stop is in an event of its own
	}

	if !orderly || c.log.Core().Enabled(zap.DebugLevel) {
		c.next.Observe(e)
	}
}

// pebbleLog writes the diagnostics of the state's database. Its notices are for developers.
type pebbleLog struct{ *zap.SugaredLogger }

// Infof writes a notice at the level debug.
func (l pebbleLog) Infof(format string, args ...any) { l.Debugf(format, args...) }
