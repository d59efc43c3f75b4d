package command

import "github.com/spf13/cobra"

func (a *app) genesisCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "genesis",
		Short: "Begin a chain on several machines",
		Long: `Genesis makes the genesis of a chain whose validators are on several machines:

  on each machine    coppice init --consensus cometbft --p2p 0.0.0.0:26656
                     coppice genesis entry --address HOST:26656 > NAME.json
  on one machine     coppice genesis collect --chain-id orchard --genesis-in 10m *.json > net.json
  on each machine    coppice genesis install net.json
                     coppice genesis check
                     coppice start

No file in it is secret. All machines must install the same net.json: compare the sha256 that
check prints.`,
		Example: "  coppice genesis check",
	}
	cmd.AddCommand(a.genesisEntry(), a.genesisCollect(), a.genesisInstall(), a.genesisCheck())
	return cmd
}
