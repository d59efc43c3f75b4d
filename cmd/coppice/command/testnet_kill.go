package command

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/cmd/coppice/internal/testnet"
)

func (a *app) testnetKill(open func() (*testnet.Net, error)) *cobra.Command {
	var signal, how string
	cmd := &cobra.Command{
		Use:   "kill INDEX [PATH | comet]",
		Short: "Kill a node, its CometBFT, or a child of its tree",
		Long: `Kill sends a signal to the process of a node, SIGKILL by default, or with "comet" to its CometBFT.
With a path of the tree it kills that child, as 'coppice kill' does. Whatever was killed comes back.`,
		Example: `  coppice testnet kill 2
  coppice testnet kill 2 comet
  coppice testnet kill 0 coppice/node/transactions/storage
  coppice testnet kill 1 --signal STOP && coppice testnet kill 1 --signal CONT`,
		ValidArgsFunction: a.completeNode(open),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return fmt.Errorf("%d arguments, want INDEX and optionally PATH or comet", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := open()
			if err != nil {
				return err
			}
			i, err := strconv.Atoi(args[0])
			if err != nil || i < 0 || i >= n.Nodes {
				return usageError(cmd, "node %q: want 0 to %d", args[0], n.Nodes-1)
			}
			sig, ok := signals[strings.TrimPrefix(strings.ToUpper(signal), "SIG")]
			if !ok {
				return usageError(cmd, "--signal %q: want KILL, TERM, STOP or CONT", signal)
			}
			if len(args) == 1 || args[1] == "comet" {
				return n.Signal(cmd.Context(), i, len(args) == 2, sig)
			}

			kill := a.at(n.Home(i)).killCommand()
			kill.SetArgs([]string{args[1], "--how", how})
			kill.SilenceUsage, kill.SilenceErrors = true, true
			kill.SetOut(cmd.OutOrStdout())

			return kill.ExecuteContext(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&signal, "signal", "KILL", "KILL, TERM, STOP or CONT")
	offer(cmd, "signal", "KILL", "TERM", "STOP", "CONT")
	cmd.Flags().StringVar(&how, "how", "error", "how to kill a child of the tree: see 'coppice kill --help'")

	return cmd
}

var signals = map[string]syscall.Signal{"KILL": syscall.SIGKILL, "TERM": syscall.SIGTERM, "STOP": syscall.SIGSTOP,
	"CONT": syscall.SIGCONT}
