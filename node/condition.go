package node

import (
	"context"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/node/readiness"
)

// readinessSources returns what the node's readiness is computed from.
func (n *Node) readinessSources() readiness.Sources {
	return readiness.Sources{
		Down: n.whyDown, CoreDown: n.whyCoreDown, Held: n.heldBy,
		Driver: n.driverCondition, Chain: (&figures{node: n}).chain,
		Disk: n.space, Now: n.now,
	}
}

// driverCondition returns what the driver of the consensus says about itself; ok is false if the
// driver says nothing.
func (n *Node) driverCondition() (c consensus.Condition, ok bool) {
	d, ok := n.driver.(consensus.Conditioned)
	if !ok {
		return c, false
	}
	return d.Condition(), true
}

// watchReadiness reports each change of the readiness until the returned function is called. The
// condition is Stopping once ctx has ended.
func (n *Node) watchReadiness(ctx context.Context) (end func()) {
	stopped := context.AfterFunc(ctx, n.ready.Stop)
	watched := beside(ctx, func(ctx context.Context) { n.ready.Watch(ctx, n.readinessChanged) })

	return func() {
		stopped()
		watched()
	}
}

// processChanged reports a change of the process of the consensus: on the bus, and in the streams
// of events.
func (n *Node) processChanged(p consensus.Process) {
	e := engines.ProcessChanged(p)
	n.bus.Publish(e)
	n.news.Changed(e)
}

// readinessChanged reports a change of the readiness: on the bus, in the streams of events, and in
// the diagnostics.
func (n *Node) readinessChanged(c consensus.Condition) {
	e := readiness.Event(c)
	n.bus.Publish(e)
	n.news.Changed(e)

	level := zap.WarnLevel
	if c.State == consensus.Starting || c.State == consensus.Stopping {
		level = zap.DebugLevel
	}

	if c.Able() {
		n.diagnostics.Info("ready")
	} else {
		n.diagnostics.Log(level, "not ready", zap.String("state", e.State), zap.String("reason", e.Reason))
	}

	for _, w := range c.Warnings {
		n.diagnostics.Warn("the node is in "+
			"trouble", zap.String("state", string(w.State)), zap.String("reason", w.Reason))
	}
}
