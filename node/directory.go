package node

import (
	"context"
	"errors"
	"time"

	"github.com/coppice-go/coppice/engines"
)

// Directory resolves the node's engines for callers outside of the tree: a program around the node,
// a test. It follows every restart of the node; engines themselves use the directory that their
// Start was given, which ends with theirs.
func (n *Node) Directory() engines.Directory { return callerDirectory{n} }

type callerDirectory struct{ n *Node }

// errOutside: an incarnation registers where it runs.
var errOutside = errors.New("this directory is for callers: an engine registers in the one that its Start was given")

func (callerDirectory) Register(*engines.Mailbox) error { return errOutside }

func (o callerDirectory) Resolve(name string) (*engines.Mailbox, error) {
	c := o.n.core.Load()
	if c == nil {
		return nil, &engines.DownError{Engine: name}
	}
	return c.dir.Resolve(name)
}

// nextRun is how often Await looks whether another run of the node has begun.
const nextRun = 5 * time.Millisecond

// Await outlasts the directory of one run of the node.
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
