package chaos

import (
	"fmt"
	"sync"

	"github.com/coppice-go/coppice/cmd/coppice/internal/rig"
	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// sightings holds the blocks that the nodes have shown in their streams and logs: for each height,
// the block hash and the app hash that were seen first.
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

// note returns an error if another node, or the same one earlier, has shown a different block or
// app hash at the height of b. It remembers the first block that it gets for each height.
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

// seen returns how many heights were seen, and how often a block was compared with the one seen
// first at its height.
func (c *sightings) seen() (heights, compared int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.at), c.compared
}

// follower checks the committed blocks that come from one node's stream, or from its log. Each
// height must come once, in order, and none may be left out. In a log, no transaction may be
// applied twice.
type follower struct {
	*sightings
	node    int
	height  uint64
	applied map[chain.TxID]uint64 // the height at which each transaction was applied; nil in a stream: not checked
}

// take checks the next block, and returns an error if it breaks one of the follower's rules.
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

// read checks all committed blocks in the log of a stopped node. dir is the log's directory.
func (c *sightings) read(node int, dir string) error {
	f := &follower{sightings: c, node: node, applied: make(map[chain.TxID]uint64)}
	_, err := rig.Committed(dir, f.take)
	return err
}
