package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/cmd/coppice/internal/testnet"
)

// testnetAddJSON is what "testnet add --json" prints.
type testnetAddJSON struct {
	Index int    `json:"index"`
	Home  string `json:"home"`
}

func (a *app) testnetAdd(open func() (*testnet.Net, error)) *cobra.Command {
	var o testnet.AddOptions
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "add",
		Short: "Add a node to a running testnet",
		Long: `Add makes one more node, with the configuration of node 0, and starts it. The node is no validator
until 'coppice validators update' makes it one. It catches up by block sync from the first block or,
with --state-sync, begins with a snapshot of the state, which add makes another node take and offer
first (see 'coppice snapshot offer'). Add does not wait until the node has caught up; 'coppice
testnet status --height N --wait 60s' does.`,
		Example: `  coppice testnet add
  coppice testnet add --state-sync --json`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := open()
			if err != nil {
				return err
			}
			if o.StateSync {
				if err := a.offerInTestnet(cmd.Context(), n); err != nil {
					return err
				}
			}

			i, err := n.Add(cmd.Context(), o)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), testnetAddJSON{i, n.Home(i)})
			}

			_, err = fmt.Fprintf(cmd.OutOrStdout(), "node %d joins, in %s\n", i, n.Home(i))
			return err
		},
	}

	cmd.Flags().BoolVar(&o.StateSync, "state-sync", false,
		"begin with a snapshot of the state instead of the first block")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")

	return cmd
}

// offerInTestnet makes the first node of a testnet that can take a snapshot offer it to the others.
// Otherwise a new node would wait for the next height that state_sync.every_heights divides.
func (a *app) offerInTestnet(ctx context.Context, n *testnet.Net) error {
	if err := n.Running(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, a.timeout, fmt.Errorf("gave up after %v (--timeout)", a.timeout))
	defer cancel()

	var errs []error

	for i := range n.Nodes {
		at := a.at(n.Home(i))
		c := at.client()
		_, err := c.OfferSnapshot(ctx)
		c.CloseIdle()
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("node %d: %w", i, at.nodeError(ctx, err)))
	}

	return fmt.Errorf("no node took a snapshot for the new one: %w", errors.Join(errs...))
}
