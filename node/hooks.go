package node

import (
	"context"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/storage"
	"github.com/coppice-go/coppice/engines/worker"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// hooks returns what runs the hooks of the node's backends on the state of store, or nil if no
// backend has one.
func (n *Node) hooks(store storage.Client) func(context.Context, chain.Block) ([]*logv1.HookFailure, error) {
	hooks := chain.BlockBackends(n.backends)
	if len(hooks) == 0 {
		return nil
	}
	return worker.Hooks{Backends: hooks, Store: store, Conduct: n.traits.Conduct}.EndBlock
}
