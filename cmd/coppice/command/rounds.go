package command

import "github.com/spf13/cobra"

func (a *app) roundsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rounds",
		Short: "Show and check the service of rounds of the program and of a node",
		Long: `Rounds is an agreed state machine whose inputs are the blocks of the chain. The commands spec and
check are about the service in the program, and need no home. Status is about a running node, and
replay about the log of a stopped one.`,
		Example: "  coppice rounds status",
	}
	cmd.AddCommand(a.roundsSpec(), a.roundsCheck(), a.roundsStatus(), a.roundsReplay())
	return cmd
}
