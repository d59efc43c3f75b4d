package command

import "github.com/spf13/cobra"

func (a *app) debugCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "debug",
		Short:   "Collect what a bug report needs",
		Long:    `Debug has what helps to find out why a node does not do what it should.`,
		Example: "  coppice debug dump",
	}
	cmd.AddCommand(a.debugDumpCommand(), a.debugProfileCommand())
	return cmd
}
