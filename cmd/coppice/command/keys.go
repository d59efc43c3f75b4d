package command

import "github.com/spf13/cobra"

func (a *app) keysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Show, make and replace the keys of a node with CometBFT",
		Long: `Keys are of two kinds. The node key is the node's identity for its peers: its id is part of its
address in their persistent_peers. The validator key signs blocks; data/priv_validator_state.json
says how far it has signed, and belongs to it wherever it goes. No command prints a private key.`,
		Example: "  coppice keys show",
	}
	cmd.AddCommand(a.keysShow(), a.keysGenerate(), a.keysRotate(), a.keysSigner())
	return cmd
}
