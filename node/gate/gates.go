package gate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/streams"
)

// Options configure the gates of a node.
type Options struct {
	File  string // of the gates
	Data  string // directory of what the gates remember
	Sinks Sinks

	// Without names sinks that no gate waits for until the end of the process.
	Without []string

	// Halt begins an orderly stop of the node. It does not wait, and is called once.
	Halt func(*HaltError)

	// Changed is called when a gate is held, spills, halts the node, or is open again. It must not
	// call the gates.
	Changed func(Status)

	// Waited is called with each block that has passed a gate, and how long it has waited there.
	Waited func(gate string, d time.Duration)

	Diagnostics *zap.Logger
}

// ErrWithout means that a sink which a start leaves out does not exist.
var ErrWithout = errors.New("no such sink")

// HeldAfter is how long a block waits at a gate without progress of a sink before the node is held.
const HeldAfter = 5 * time.Second

// Gates are the gates of a node. They outlive the engines. Gates is safe for concurrent use.
type Gates struct {
	o Options

	looking sync.Mutex // held over each decision, and what it writes to the disk
	halted  bool       // guarded by looking

	mu        sync.Mutex // never held over anything that waits
	gates     []*one
	reloaded  chan struct{} // closed by the next Reload
	waits     []*wait       // the blocks that wait, the oldest first
	passed    chain.Block   // the newest block that has passed, or that the log has decided
	committed streams.Position
	asked     bool // where the log stands is known
}

// one is a gate with what it remembers.
type one struct {
	Gate
	state State
	told  Phase     // what Changed was told last
	since time.Time // of told
}

// HaltError says which gate has halted a node.
type HaltError struct {
	Gate   string
	Sinks  []string // that have made no progress
	Height uint64   // of the block that waited
}

func (h *HaltError) Error() string {
	return fmt.Sprintf("gate %s halts the node before block %d, because of %s: mend the sink, or start once with "+
		"--without-sink %s", h.Gate, h.Height, strings.Join(h.Sinks, ", "), strings.Join(h.Sinks, ","))
}

// New reads the gates of a node. Errors are of ErrFile and ErrWithout.
func New(o Options) (*Gates, error) {
	if o.Diagnostics == nil {
		o.Diagnostics = zap.NewNop()
	}
	if o.Sinks == nil {
		o.Sinks = None{}
	}
	if o.Changed == nil {
		o.Changed = func(Status) {}
	}
	if o.Waited == nil {
		o.Waited = func(string, time.Duration) {}
	}

	for _, name := range o.Without {
		if _, ok := o.Sinks.Ack(name); !ok {
			return nil, fmt.Errorf("%w: %q is left out, want one of: %s", ErrWithout, name, list(o.Sinks.Names()))
		}
	}

	defs, err := Read(o.File, o.Sinks)
	if err != nil {
		return nil, err
	}

	g := &Gates{o: o, reloaded: make(chan struct{})}
	spills, err := readSpills(o.Data)
	if err != nil {
		o.Diagnostics.Warn("a gate that spills begins anew", zap.Error(err))
	}
	g.define(defs)
	for _, at := range g.gates {
		at.state.Spilling = spills[at.Name]
		at.state.Closed = !at.state.Spilling.Since.IsZero()
	}

	return g, nil
}

// Reload reads the file of gates again. If it is not valid, nothing changes. A gate that keeps its
// name keeps what it remembers.
func (g *Gates) Reload() error {
	defs, err := Read(g.o.File, g.o.Sinks)
	if err != nil {
		return err
	}

	g.looking.Lock()
	defer g.looking.Unlock()

	g.mu.Lock()
	defer g.mu.Unlock()

	g.define(defs)
	close(g.reloaded)
	g.reloaded = make(chan struct{})

	return nil
}

// define puts gates in force.
func (g *Gates) define(defs []Gate) {
	was := g.gates
	g.gates = nil

	for _, d := range defs {
		next := &one{Gate: d, told: Open}
		if i := slices.IndexFunc(was, func(o *one) bool { return o.Name == d.Name }); i >= 0 {
			next.state, next.told, next.since = was[i].state, was[i].told, was[i].since
		}
		g.gates = append(g.gates, next)
	}
}

// Of returns the names of the gates that wait for a sink.
func (g *Gates) Of(sink string) (names []string) {
	g.mu.Lock()
	defer g.mu.Unlock()

	for _, at := range g.gates {
		if slices.Contains(at.Sinks, sink) {
			names = append(names, at.Name)
		}
	}

	return names
}

// sink returns a sink as the gates see it.
func (g *Gates) sink(name string) Sink {
	s, ok := g.o.Sinks.Sink(name)
	if !ok {
		s.State = "removed"
	}
	if slices.Contains(g.o.Without, name) {
		s.State, s.Exempt = "left out", forever
	}
	return s
}

// forever is after the end of any process.
var forever = time.Unix(1<<40, 0)
