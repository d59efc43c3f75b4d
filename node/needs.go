package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/node/backends"
	"github.com/coppice-go/coppice/node/exit"
)

// bindBackends replaces each backend that depends on the genesis by the one of the chain. It
// returns exit.ErrConfig if the chain has a service of rounds that the program lacks: the other
// nodes execute it in every block.
func (n *Node) bindBackends(g chain.Genesis) error {
	if err := chain.BindBackends(g, n.backends); err != nil {
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}
	if _, has := n.backends[chain.RoundsBackend]; len(g.Agents) > 0 && !has {
		return fmt.Errorf("%w: %s of home %s registers %d agents, and this program has no service of rounds for them: "+
			"use the program that has it (node.WithRounds)", exit.ErrConfig, chain.GenesisFile, n.home, len(g.Agents))
	}
	return nil
}

// checkBackends returns exit.ErrConfig if the program lacks a backend that the chain needs. It
// changes nothing in the home.
func (n *Node) checkBackends() error {
	needs, err := backends.Needed(context.Background(), n.home, n.logDisk, func(done, total uint64) {
		n.progress.Update("reading the log for the backends that it needs", "records", done, total)
	})
	if err != nil {
		return err
	}
	if err := needs.Check(n.home, n.backends); err != nil {
		return err
	}

	n.needs = needs.Union(backends.Of(n.backends))

	return nil
}

// recordBackends records durably what the chain needs from now on. It comes before the tree starts,
// so before any transaction is accepted.
func (n *Node) recordBackends() error {
	was, err := backends.Read(n.home)
	if err == nil && bytes.Equal(was.JSON(), n.needs.JSON()) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := n.needs.Write(n.home); err != nil {
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	return nil
}
