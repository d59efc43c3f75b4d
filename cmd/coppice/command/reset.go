package command

import "github.com/spf13/cobra"

func (a *app) resetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reset",
		Short: "Restart consensus, or begin a new chain with the state of the old one",
		Long: `Agree ends the chain and begins its next epoch, with the same state, under the chain id
NAME-EPOCH. Heights go on. Only a chain whose genesis.json has "resets" can be reset: see 'coppice
init --reset-offset'.

Verify carries a light client's trust over the resets of a CometBFT chain.

Gentle, hard and status ask a manager ('coppice manager', or a node with manager.listen), which
restarts its CometBFT. The manager makes one change after another, and the command waits for the
outcome.`,
		Example: `  coppice reset agree --key governance.key
  coppice reset gentle --manager 127.0.0.1:8080
  coppice reset status --watch --manager 127.0.0.1:8080`,
	}
	cmd.AddCommand(a.resetAgree(), a.resetVerify(),
		a.resetGentleCommand(), a.resetHardCommand(), a.resetStatusCommand())
	return cmd
}
