package node

import (
	"context"
	"errors"
	"time"

	"github.com/coppice-go/coppice/engines"
)

// nextRun is how often Await looks whether another run of the node has begun.
const nextRun = 5 * time.Millisecond

// errOutside is returned to an engine that registers in a directory for callers.
var errOutside = errors.New("this directory is for callers: an engine registers in the one that its Start was given")

// Directory returns a directory that resolves the node's engines for callers outside of the tree,
// such as a program around the node, or a test. It follows every restart of the node. An engine
// must instead use the directory that its Start was given. That one ends with the run of the node.
func (n *Node) Directory() engines.Directory { return callerDirectory{n} }

// callerDirectory is the directory for callers outside of the tree.
type callerDirectory struct{ n *Node }

// Register refuses the mailbox.
func (callerDirectory) Register(*engines.Mailbox) error { return errOutside }

// Resolve finds an engine in the current run of the node.
func (o callerDirectory) Resolve(name string) (*engines.Mailbox, error) {
	c := o.n.core.Load()
	if c == nil {
		return nil, &engines.DownError{Engine: name}
	}

	return c.dir.Resolve(name)
}

// Await waits until an engine has an incarnation after the given one, and returns its mailbox. It
// keeps waiting when the node restarts.
func (o callerDirectory) Await(ctx context.Context, name string, after uint64) (*engines.Mailbox, error) {
	again := time.NewTicker(nextRun)
	defer again.Stop()

	for {
		if c := o.n.core.Load(); c != nil {
			m, err := c.dir.Await(ctx, name, after)
			if err == nil || ctx.Err() != nil {
				return m, err
			}
		}

		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
