package gate

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/supervisor"
)

// again is how often a block that waits is looked at, even if nothing is said to have changed.
const again = time.Second

// wait is a block at the gates.
type wait struct {
	at    streams.Position
	began time.Time
	of    map[string]Decision      // the newest of each gate that makes it wait
	took  map[string]time.Duration // until each gate first let it pass
	left  bool                     // its driver has gone, and the next one will bring it again
}

// admit returns when the gates let b pass. It returns the cause of ctx when that ends before.
func (g *Gates) admit(ctx context.Context, b chain.Block) error {
	if g.free(b) {
		return nil
	}

	w, passed := g.enter(b), false
	defer func() { g.leave(w, passed) }()
	faults := supervisor.Faults(ctx)

	for {
		g.mu.Lock()
		reloaded := g.reloaded
		g.mu.Unlock()
		changed := g.o.Sinks.Changed()

		var next time.Time
		if passed, next = g.look(w); passed {
			g.remember(b)
			return nil
		}

		timer := time.NewTimer(time.Until(sooner(next, time.Now().Add(again))))

		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case f := <-faults:
			f.Do(ctx)
		case <-changed:
		case <-reloaded:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// enter notes that a block has come to the gates. A block at the height of one whose driver has
// gone has waited since that one came.
func (g *Gates) enter(b chain.Block) *wait {
	w := &wait{at: positionOf(b), began: time.Now(), took: make(map[string]time.Duration)}
	g.mu.Lock()
	defer g.mu.Unlock()

	g.waits = slices.DeleteFunc(g.waits, func(o *wait) bool {
		if o.left && o.at == w.at {
			w.began, w.of = o.began, o.of
		}
		return o.left
	})
	g.waits = append(g.waits, w)

	return w
}

// leave notes that a block has passed, or that its driver has gone.
func (g *Gates) leave(w *wait, passed bool) {
	g.looking.Lock()
	defer g.looking.Unlock()

	g.mu.Lock()
	if w.left = true; passed {
		g.waits = slices.DeleteFunc(g.waits, func(o *wait) bool { return o == w })
	}
	g.mu.Unlock()

	if passed {
		for name, took := range w.took {
			g.o.Waited(name, took)
		}
		g.tell()
	}
}

// look decides about a block once. next is when to look again even if nothing changes.
func (g *Gates) look(w *wait) (passed bool, next time.Time) {
	g.looking.Lock()
	defer g.looking.Unlock()

	if g.halted {
		return false, time.Time{}
	}

	now := time.Now()
	passed = true
	of := make(map[string]Decision)

	for _, at := range g.list() {
		d, s := at.Decide(at.state, w.at, g.sink, now)

		if s.Spilling != at.state.Spilling {
			if err := g.writeSpill(at.Name, s.Spilling); err != nil && !s.Spilling.Since.IsZero() {
				g.o.Diagnostics.Error("what a gate spills cannot be written down, so the block waits",
					zap.String("gate", at.Name), zap.Error(err))
				passed = false
				of[at.Name] = Decision{Verdict: Wait, Missing: d.Missing}
				continue
			}
		}
		g.keep(at, s)

		switch d.Verdict {
		case Pass:
			if _, was := w.took[at.Name]; !was {
				w.took[at.Name] = now.Sub(w.began)
			}
			continue
		case DropThem:
			g.drop(at.Name, d.Expired)
		case HaltNode:
			defer g.halt(at.Name, d.Expired, w.at.Height)
		}
		delete(w.took, at.Name)

		passed, next = false, sooner(next, d.Next)
		of[at.Name] = d
	}

	g.mu.Lock()
	w.of = of
	g.mu.Unlock()

	if at, ok := g.tell(); ok && !passed {
		next = sooner(next, at)
	}

	return passed, next
}

// sooner returns the earlier of two times; the zero time is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// list returns the gates. Their states change only while looking is held.
func (g *Gates) list() []*one {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.gates)
}

func (g *Gates) keep(at *one, s State) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at.state = s
}

// drop gives up sinks. One that cannot be given up is tried again.
func (g *Gates) drop(gate string, sinks []string) {
	for _, name := range sinks {
		if err := g.o.Sinks.Drop(name, "gate "+gate+": no progress for its timeout"); err != nil {
			g.o.Diagnostics.Error("a sink cannot be dropped", zap.String("gate", gate), zap.String("sink", name),
				zap.Error(err))
			continue
		}
		g.o.Diagnostics.Error("a gate has dropped a sink: the log is no longer kept for it", zap.String("gate", gate),
			zap.String("sink", name))
	}
}

// halt stops the node. The block waits for the end of its context.
func (g *Gates) halt(gate string, sinks []string, height uint64) {
	if g.halted {
		return
	}
	g.halted = true
	if g.o.Halt != nil {
		g.o.Halt(&HaltError{Gate: gate, Sinks: sinks, Height: height})
	}
}
