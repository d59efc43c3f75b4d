package storage

import (
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage/apphash"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// ground is what a staged block stands on: the state before it. That state is committed, or it is
// the outcome of a sealed block whose commit is under way (docs/adr/0214).
type ground struct {
	state *published // Index and pruned may be those of an earlier state
	acc   apphash.Accumulator
	under *staging          // the sealed block; nil once it is committed
	read  map[string]latest // what was committed, for keys that were looked up and under has not written
}

// committedGround returns the committed state as the ground of a block. mu is held.
func (d *DB) committedGround() *ground {
	return &ground{state: d.published.Load(), acc: d.acc, read: make(map[string]latest)}
}

// ground returns what b stands on. mu is held.
func (d *DB) ground(b chain.Block) *ground {
	s := d.staged
	if s != nil && s.on.under != nil {
		s = s.on.under // b may take the place of the block that stands on it
	}

	if s == nil || s.outcome == nil || b.ChainID != s.block.ChainID || b.Period != s.block.Period ||
		b.Height != s.block.Height+1 {
		return d.committedGround()
	}

	next := *s.on.state
	next.record, next.reset = s.outcome.next, s.outcome.reset

	return &ground{state: &next, acc: s.outcome.acc, under: s, read: make(map[string]latest)}
}

// written returns what the sealed block below has left under key, if it has written the key.
func (g *ground) written(key []byte) (latest, bool) {
	if g.under == nil {
		return latest{}, false
	}

	c, ok := g.under.newest[string(key)]
	switch {
	case !ok:
		return latest{}, false
	case c.Delete:
		return latest{}, true
	}

	return latest{found: true, version: chain.VersionFromProto(c.Version), value: c.Value}, true
}

// result returns the result of a transaction that the sealed block below applies, or nil.
func (g *ground) result(id chain.TxID) *logv1.TxResult {
	if g.under == nil {
		return nil
	}
	i, ok := g.under.ids[id]
	if !ok || g.under.slots[i].refused {
		return nil
	}
	return g.under.slots[i].result
}

// births returns the ids that the sealed block below adds to the state.
func (g *ground) births() []birth {
	if g.under == nil {
		return nil
	}
	return g.under.outcome.births
}
