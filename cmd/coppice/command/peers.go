package command

import "github.com/spf13/cobra"

func (a *app) peersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "peers",
		Short: "List and add the peers of a node with CometBFT",
		Long: `Peers are the nodes that the home's CometBFT is connected to. The commands ask that CometBFT
over its own socket, so they work only on the machine of the node, as the node's user.`,
		Example: "  coppice peers list",
	}
	cmd.AddCommand(a.peersList(), a.peersAdd())
	return cmd
}
