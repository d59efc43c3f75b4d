package node

import (
	"time"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/gate"
)

// gateSinks are the slots of the node's streams, as its gates see them.
type gateSinks struct {
	*streams.Streams
	log    func() *eventlog.Log // nil before it was opened
	scarce func() bool          // whether the disk has too little room
}

// whileExempt is how long an exemption lasts for one decision: the slot says whether there is one
// now.
const whileExempt = time.Minute

// Sink implements gate.Sinks. An empty sink has not even the start of the chain, so it does not
// count.
func (g gateSinks) Sink(name string) (gate.Sink, bool) {
	st, err := g.Standing(name)
	if err != nil {
		return gate.Sink{}, false
	}

	s := gate.Sink{
		At: st.At.Position, Known: st.Known && !st.At.Empty(), Progress: st.Progress, State: string(st.State),
		Paused: st.Paused, Degraded: st.Degraded, Lost: st.Lost, NoRoom: g.scarce(),
	}
	if st.Exempt {
		s.Exempt = time.Now().Add(whileExempt)
	}
	if l := g.log(); l != nil {
		s.Behind = st.Kept(l.Stat())
	}

	return s, true
}

// Ack implements gate.Sinks.
func (g gateSinks) Ack(name string) (streams.AckLevel, bool) {
	st, err := g.Standing(name)
	return st.Ack, err == nil
}

// Drop implements gate.Sinks.
func (g gateSinks) Drop(name, why string) error { return g.Lose(name, why) }
