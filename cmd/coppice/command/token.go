package command

import "github.com/spf13/cobra"

func (a *app) tokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Replace the tokens of a home",
		Long: `A home has three tokens, each in a file of its own: admin.token allows everything, submit.token
allows transactions and reads, and read.token allows reads only. Clients send one as
"authorization: Bearer TOKEN". A running node follows the files.`,
		Example: `  coppice token rotate submit
  COPPICE_TOKEN=$(cat ~/.coppice/read.token) coppice status --address node1.example:7070`,
	}
	cmd.AddCommand(a.tokenRotateCommand())
	return cmd
}
