package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/coppice-go/coppice/node/host"
	"github.com/coppice-go/coppice/supervisor"
)

// Down says why the node does not serve at the moment, by the first place of the tree that does not
// run; empty when all do. It does not wait.
func (n *Node) Down() string { return n.whyDown() }

// Alive asks what a watchdog must know, and waits for the answers: that the loop of the tree's root
// takes its turn, and, where the tree says that all of it runs, that storage, pool and log answer.
// An engine that is down or is being restarted is the tree's affair and no error here; one that
// says nothing until ctx ends is. It is for a node that has been ready once: while the tree starts,
// its root is busy with that. Safe for concurrent use.
func (n *Node) Alive(ctx context.Context) error {
	// There is no such child; that the root says so is the answer, since it does so in its turn.
	err := n.host.DeleteChild(ctx, "nobody")
	if !errors.Is(err, supervisor.ErrNotFound) && !errors.Is(err, supervisor.ErrNotRunning) {
		return fmt.Errorf("the root of the tree does not answer: %w", err)
	}
	c := n.core.Load()
	if n.whyDown() != "" || c == nil {
		return nil
	}
	_, err = newAPICore(n, c).Status(ctx)
	if err != nil && ctx.Err() != nil && n.whyDown() == "" {
		return fmt.Errorf("the engines of the node do not answer: %w", context.Cause(ctx))
	}

	return nil
}

// whyDown names the first place of the node that does not run, and why; empty when all do.
func (n *Node) whyDown() string {
	if n.host == nil {
		return "the node has not started"
	}
	tree, ok := n.host.Tree().Find("coppice")
	if !ok {
		return "the node has not started"
	}
	why := host.Down(tree)
	if p, busy := n.Progress(); busy && why != "" {
		why = p.String() + "; " + why
	}

	return why
}
