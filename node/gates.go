package node

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/gate"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/metrics"
)

// openGates reads the gates of the home. It writes nothing there. Errors are exit.ErrConfig.
func (n *Node) openGates() (err error) {
	if n.sinks == nil && n.streams != nil {
		n.sinks = gateSinks{n.streams, n.eventLog.Load, n.scarce}
	}

	n.gates, err = gate.New(gate.Options{
		File: filepath.Join(home.StreamsDir(n.home), gate.FileName), Data: home.StreamsDataDir(n.home),
		Sinks: n.sinks, Without: n.without,
		Halt: n.haltedByGate, Changed: n.gateChanged,
		Waited: func(name string, d time.Duration) { n.meter.GateWaited(name, d) }, Diagnostics: n.diagnostics,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	return nil
}

// reloadStreams reads the definitions of streams, and then the gates again. Of what is not valid
// nothing changes.
func (n *Node) reloadStreams() error {
	if n.streams != nil {
		if err := n.streams.Reload(); err != nil {
			return fmt.Errorf("%w: %w", exit.ErrConfig, err)
		}
	}
	if err := n.gates.Reload(); err != nil {
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	return nil
}

// haltedByGate stops the node in order, as a signal does. Run then returns exit.ErrHalted.
func (n *Node) haltedByGate(h *gate.HaltError) {
	n.halted.Do(func() {
		n.haltedBy.Store(h)
		n.diagnostics.Error("a gate halts the node", zap.String("gate", h.Gate), zap.Strings("sinks", h.Sinks),
			zap.Uint64("height", h.Height))
		n.Stop()
	})
}

// gateChanged reports what a gate does on the bus.
func (n *Node) gateChanged(s gate.Status) {
	e := engines.GateChanged{Gate: s.Gate, Phase: string(s.Phase), Height: s.Height}
	for _, m := range s.Sinks {
		e.Sinks = append(e.Sinks, m.Name)
	}
	n.bus.Publish(e)
}

// heldBy returns which gates hold a block, and what they wait for; "" if none does.
func (n *Node) heldBy() string {
	var text []string
	for _, s := range n.gates.Held() {
		text = append(text, s.String())
	}
	return strings.Join(text, "; ")
}

// gateFigures returns the figures of the gates.
func (n *Node) gateFigures() (list []metrics.GateStat) {
	for _, s := range n.gates.Statuses() {
		list = append(list, metrics.GateStat{Name: s.Gate, Held: s.Phase == gate.Held, Spills: s.Phase == gate.Spills,
			Exempt: len(s.Exempt)})
	}
	return list
}
