package gate

import (
	"context"
	"slices"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/streams"
)

// ordering is an Ordering behind the gates.
type ordering struct {
	consensus.Ordering
	gates *Gates
}

// Wrap returns an Ordering whose Order waits at the gates. All that Wrap returns share what has
// passed.
func (g *Gates) Wrap(o consensus.Ordering) consensus.Ordering { return ordering{o, g} }

// Info implements consensus.Ordering. It shows which block the log has decided.
func (o ordering) Info(ctx context.Context) (chain.Standing, error) {
	s, err := o.Ordering.Info(ctx)
	if err == nil {
		o.gates.saw(s)
	}
	return s, err
}

// Order implements consensus.Ordering.
func (o ordering) Order(ctx context.Context, b chain.Block) (chain.Staged, error) {
	if !o.gates.knows() {
		if _, err := o.Info(ctx); err != nil {
			return chain.Staged{}, err
		}
	}
	if err := o.gates.admit(ctx, b); err != nil {
		return chain.Staged{}, err
	}

	return o.Ordering.Order(ctx, b)
}

// Commit implements consensus.Ordering. It never waits at a gate: consensus may hold locks.
func (o ordering) Commit(ctx context.Context, height uint64) (chain.State, error) {
	s, err := o.Ordering.Commit(ctx, height)
	if err == nil {
		o.gates.commits(s)
	}
	return s, err
}

func positionOf(b chain.Block) streams.Position {
	return streams.Position{Period: b.Period, Height: b.Height}
}

// saw notes where the log stands.
func (g *Gates) saw(s chain.Standing) {
	g.commits(s.Committed)

	g.mu.Lock()
	defer g.mu.Unlock()

	g.asked = true
	if s.Leftover != nil {
		g.pass(*s.Leftover)
	}
}

func (g *Gates) knows() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked
}

func (g *Gates) commits(s chain.State) {
	g.mu.Lock()
	defer g.mu.Unlock()

	at := streams.Position{Period: s.Period, Height: s.Height}
	if at.Compare(g.committed) <= 0 {
		return
	}
	g.committed = at
	g.waits = slices.DeleteFunc(g.waits, func(w *wait) bool { return w.left && w.at.Compare(at) <= 0 })
}

// remember notes that a block has passed, so that it passes again at once.
func (g *Gates) remember(b chain.Block) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pass(b)
}

func (g *Gates) pass(b chain.Block) {
	g.passed = chain.Block{ChainID: b.ChainID, Period: b.Period, Height: b.Height, Hash: b.Hash}
}

// free reports whether a block passes whatever the sinks say: it is committed, the log has decided
// it, or it has passed before.
func (g *Gates) free(b chain.Block) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.passed.Same(b) || positionOf(b).Compare(g.committed) <= 0
}
