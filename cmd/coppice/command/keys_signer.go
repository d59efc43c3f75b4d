package command

import (
	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/consensus/comet/signer"
	"github.com/coppice-go/coppice/node/exit"
)

func (a *app) keysSigner() *cobra.Command {
	var o signer.Options
	cmd := &cobra.Command{
		Use:   "signer DIR",
		Short: "Sign for a node on another machine",
		Long: `Signer has the validator key and the signing state in DIR, and signs with them for the node whose
config.toml has the address of --connect as priv_validator_laddr. The node's home has no validator
key then. The signer connects to the node, and waits for one that is away. It signs nothing twice,
whoever asks: the signing state is on disk before a signature leaves. It runs until it gets SIGINT
or SIGTERM.

The connection is encrypted, but the sides do not prove who they are: use it in a private network or
a tunnel, or a unix socket.`,
		Example: `  coppice keys generate validator key
  coppice keys signer key --chain-id orchard --connect tcp://10.0.0.7:26659`,
		Args:        words("DIR"),
		Annotations: map[string]string{homeUse: homeUnused},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Dir = args[0]
			if o.ChainID == "" || o.Connect == "" {
				return usageError(cmd, "want --chain-id and --connect")
			}
			return exit.Classify(signer.Run(cmd.Context(), o))
		},
	}
	cmd.Flags().StringVar(&o.ChainID, "chain-id", "", "the only chain to sign for")
	cmd.Flags().StringVar(&o.Connect, "connect", "", "priv_validator_laddr of the node: tcp://host:port or unix://path")
	return cmd
}
