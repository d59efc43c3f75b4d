package api

import (
	"github.com/coppice-go/coppice/node/gate"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// heldOf returns the gates that hold a block in their wire form.
func heldOf(list []gate.Status) (held []*apiv1.HeldGate) {
	for _, s := range list {
		g := &apiv1.HeldGate{Gate: s.Gate, Height: s.Height, Since: timestamp(s.Since)}
		for _, m := range s.Sinks {
			sink := &apiv1.HeldSink{Name: m.Name, State: m.State}
			if m.Known {
				sink.Height = &m.Height
			}
			g.Sinks = append(g.Sinks, sink)
		}
		held = append(held, g)
	}

	return held
}
