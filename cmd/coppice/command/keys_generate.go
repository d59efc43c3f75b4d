package command

import "github.com/spf13/cobra"

func (a *app) keysGenerate() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "generate",
		Short:   "Make a key where there is none",
		Long:    "Generate makes a node key in the home, or a validator key in a directory. It overwrites nothing.",
		Example: "  coppice keys generate node",
	}
	cmd.AddCommand(a.keysGenerateNode(), keysGenerateValidator())
	return cmd
}
