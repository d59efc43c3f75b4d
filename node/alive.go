package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/node/host"
	"github.com/coppice-go/coppice/node/plan"
	"github.com/coppice-go/coppice/node/progress"
	"github.com/coppice-go/coppice/supervisor"
)

// Down returns why the node does not serve at the moment: it names the first place of the tree that
// does not run. If every place runs, it returns "". It does not wait.
func (n *Node) Down() string { return n.whyDown() }

// Alive returns an error if a part of the node hangs. It is for a watchdog. It waits for the root
// of the tree to answer. If the tree then shows that every place runs, it also waits for storage,
// pool and log to answer. An engine that is down or restarting is no error, because the tree takes
// care of it. An engine that does not answer before ctx ends is an error. Call Alive once the node
// has been ready: while the tree starts, its root is busy. Alive is safe for concurrent use.
func (n *Node) Alive(ctx context.Context) error {
	// No child has this id. The root itself says so, and this answer is the sign that it is alive.
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

// Condition returns whether the node is ready, which means that it takes transactions and sees them
// committed, and if it is not, why. It does not wait, and is safe for concurrent use.
func (n *Node) Condition() consensus.Condition { return n.ready.Condition() }

// Up reports whether the node serves: its tree has come up, though perhaps not its consensus, which
// may have to wait for others. A node that is up has started, even if it is not ready.
func (n *Node) Up() bool { return n.whyCoreDown() == "" && n.core.Load() != nil }

// Progress returns the step that the start is busy with; ok is false if there is none.
func (n *Node) Progress() (p progress.Step, ok bool) { return n.progress.Current() }

// whyDown names the first place of the node that does not run, and why. It returns "" if every
// place runs.
func (n *Node) whyDown() string { return n.whyDownExcept() }

// whyCoreDown is whyDown for everything but the consensus, which may be down by itself.
func (n *Node) whyCoreDown() string { return n.whyDownExcept(plan.PathConsensus) }

func (n *Node) whyDownExcept(paths ...string) string {
	if n.host == nil {
		return "the node has not started"
	}

	tree, ok := n.host.Tree().Find("coppice")
	if !ok {
		return "the node has not started"
	}

	why := host.Down(tree, paths...)
	if p, busy := n.Progress(); busy && why != "" {
		why = p.String() + "; " + why
	}

	return why
}
