package command

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
		Short: "Run a testnet in the foreground, and make it first if there is none",
		Long: `Start runs the nodes of a testnet until a signal or 'testnet stop' ends it. A node that ends is
started again. -n says how many nodes a new testnet gets; nodes that 'testnet add' made run too. The
output of the nodes goes to standard error, each line after the node's name.`,
		Example: "  coppice testnet start -n 4",
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			surviveLostOutput(cmd)
			n, err := testnet.Open(a.testnetDir(*dir))
			switch {
			case errors.Is(err, fs.ErrNotExist):
				if n, err = o.make(cmd, a.program, a.testnetDir(*dir)); err != nil {
					return err
				}
			case err != nil:
				return err
			case cmd.Flags().Changed("nodes") && o.Nodes != n.Nodes && o.Nodes != n.Nodes-n.Added:
				return usageError(cmd, "--nodes is %d, the testnet in %s has %d%s", o.Nodes, n.Dir, n.Nodes, added(n))
			}

			bin, err := os.Executable()
			if err != nil {
				return err
			}

			return n.Run(cmd.Context(), testnet.RunOptions{Bin: bin, Out: cmd.ErrOrStderr(), Env: a.program.Env,
				Starting: func() {
					fmt.Fprintf(cmd.OutOrStdout(), "running %d nodes%s of chain %s in %s\n", n.Nodes, added(n),
						n.ChainID, n.Dir)
				}})
		},
	}
	o.flags(cmd)
	return cmd
}

// added returns in words how many nodes of a testnet were added to it.
func added(n *testnet.Net) string {
	if n.Added == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d of them added)", n.Added)
}
