package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/cmd/coppice/internal/testnet"
)

func (a *app) testnetStart(dir *string) *cobra.Command {
	var o testnetOptions
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Run a testnet in the foreground; make it first if there is none",
		Long: `Start runs the nodes of a testnet until it is told to stop, by a signal or by "testnet stop". A node that ends is started again.
What the nodes print goes to standard error, each line with the node's name before it.`,
		Example: "  coppice testnet start -n 4",
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := testnet.Open(a.testnetDir(*dir))
			switch {
			case errors.Is(err, fs.ErrNotExist):
				if n, err = o.make(cmd, a.testnetDir(*dir)); err != nil {
					return err
				}
			case err != nil:
				return err
			case cmd.Flags().Changed("nodes") && o.Nodes != n.Nodes:
				return usageError(cmd, "--nodes is %d, the testnet in %s has %d", o.Nodes, n.Dir, n.Nodes)
			}

			bin, err := os.Executable()
			if err != nil {
				return err
			}
			return n.Run(cmd.Context(), testnet.RunOptions{Bin: bin, Out: cmd.ErrOrStderr(), Starting: func() {
				fmt.Fprintf(cmd.OutOrStdout(), "running %d nodes of chain %s in %s\n", n.Nodes, n.ChainID, n.Dir)
			}})
		},
	}
	o.flags(cmd)
	return cmd
}
