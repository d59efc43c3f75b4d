package command

import (
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
with --state-sync, begins with a snapshot of the state that the others offer
(state_sync.every_heights). Add does not wait until the node has caught up; 'coppice testnet status
--height N --wait 60s' does.`,
		Example: `  coppice testnet add
  coppice testnet add --state-sync --json`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := open()
			if err != nil {
				return err
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
