package command

import "github.com/spf13/cobra"

func (a *app) resetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reset",
		Short: "Begin a new chain with the state of the old one",
		Long: `A reset ends the chain and begins its next epoch, with the same state, under the chain id
NAME-EPOCH. Heights go on. Only a chain whose genesis.json has "resets" can be reset: see
'coppice init --reset-offset'.`,
		Example: "  coppice reset agree --key governance.key",
	}
	cmd.AddCommand(a.resetAgree())
	return cmd
}
