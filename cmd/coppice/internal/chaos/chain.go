package chaos

import (
	"fmt"
	"sync"

	"github.com/coppice-go/coppice/cmd/coppice/internal/rig"
	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// sightings holds what was seen of a chain in streams and logs: the block and app hash at each
// height.
type sightings struct {
	mu       sync.Mutex
	at       map[uint64]sight
	compared int // how often a height was seen that had been seen before
}

// sight is what a node showed at a height.
type sight struct {
	node       int
	block, app string
}

func newSightings() *sightings { return &sightings{at: make(map[uint64]sight)} }

// note compares a block that a node committed with what was seen at its height before.
func (c *sightings) note(node int, b *logv1.BlockCommitted) error {
	c.mu.Lock()
	defer c.mu.Unlock()

	now := sight{node, string(b.BlockHash), string(b.AppHash)}

	was, known := c.at[b.Height]
	if !known {
		c.at[b.Height] = now
		return nil
	}

	c.compared++

	switch {
	case was.block != now.block:
		return fmt.Errorf("fork: at height %d node %d committed block %x, and node %d block %x", b.Height, was.node,
			was.block, node, now.block)
	case was.app != now.app:
		return fmt.Errorf("app hash: at height %d node %d has %x, and node %d has %x", b.Height, was.node, was.app,
			node, now.app)
	}

	return nil
}

// seen returns how many heights were seen, and how often one was compared with an earlier sight.
func (c *sightings) seen() (heights, compared int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.at), c.compared
}

// follower checks one node's stream of committed blocks, or its log: it has each height once, in
// order, none left out, and, in a log, no transaction is applied twice.
type follower struct {
	*sightings
	node    int
	height  uint64
	applied map[chain.TxID]uint64 // the height at which each had its effect; nil: not checked
}

// take checks the next block.
func (f *follower) take(b *logv1.BlockCommitted) error {
	if f.height != 0 && b.Height != f.height+1 {
		return fmt.Errorf("gap: node %d streamed block %d after block %d", f.node, b.Height, f.height)
	}

	f.height = b.Height

	for _, r := range b.Results {
		if f.applied == nil || r.Code != logv1.Code_CODE_OK {
			continue
		}
		id, err := chain.TxIDFromBytes(r.Id)
		if err != nil {
			return fmt.Errorf("node %d, height %d: %w", f.node, b.Height, err)
		}

		if at, twice := f.applied[id]; twice {
			return fmt.Errorf("twice: node %d applied transaction %s at height %d and at height %d", f.node, id,
				at, b.Height)
		}

		f.applied[id] = b.Height
	}

	return f.note(f.node, b)
}

// read takes all that a stopped node's log has committed.
func (c *sightings) read(node int, dir string) error {
	f := &follower{sightings: c, node: node, applied: make(map[chain.TxID]uint64)}
	_, err := rig.Committed(dir, f.take)
	return err
}
