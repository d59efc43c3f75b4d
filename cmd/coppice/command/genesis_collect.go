package command

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/chain"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/exit"
)

func (a *app) genesisCollect() *cobra.Command {
	var chainID, at string
	var in time.Duration
	var threshold, offset uint64
	var flags chainFlags
	cmd := &cobra.Command{
		Use:   "collect FILE...",
		Short: "Make the genesis of a new chain from the entries of its nodes",
		Long: `Collect prints the network of a new chain: its genesis, and the peers. The files are those of
'coppice genesis entry', one of each node. Entries with the same node id, address or validator key
are refused. The chain begins at --genesis-time, or --genesis-in from now; a CometBFT that starts
earlier waits until then.

The agents of the entries are registered for the program's service of rounds. --agent-threshold
raises the number of them that must agree from the smallest safe one, and --reset-offset allows
resets.`,
		Example:     "  coppice genesis collect --chain-id orchard --genesis-in 10m *.json > network.json",
		Annotations: map[string]string{homeUse: homeUnused},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("no arguments, want the entries of the nodes")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			_, governance, err := flags.parse(cmd)
			if err != nil {
				return err
			}
			if chainID == "" {
				return usageError(cmd, "want --chain-id")
			}

			begins := time.Now().Add(in).UTC().Truncate(time.Second)
			if at != "" {
				if begins, err = time.Parse(time.RFC3339, at); err != nil || in != 0 {
					return usageError(cmd,
						"--genesis-time %q: want a time such as 2026-01-31T12:00:00Z, and no --genesis-in", at)
				}
			}

			var members []comethome.Member
			for _, path := range args {
				var m comethome.Member
				data, err := readDocument(path, "an entry", maxDocument)
				if err == nil {
					err = json.Unmarshal(data, &m)
				}
				if err == nil {
					err = m.Check()
				}
				if err != nil {
					return fmt.Errorf("%w: %s: %w", exit.ErrConfig, path, err)
				}
				members = append(members, m)
			}

			ours := chain.NewGenesis(chainID, begins)
			ours.GenesisTime, ours.GovernanceKey, ours.AgentThreshold = begins, governance, threshold
			if offset != 0 {
				ours.Resets = &chain.Resets{Mode: chain.Regenesis, Offset: offset}
			}
			n, err := comethome.Collect(ours, members)
			if err != nil {
				return exit.Classify(err)
			}

			return printJSON(cmd.OutOrStdout(), n)
		},
	}
	f := cmd.Flags()
	f.StringVar(&chainID, "chain-id", "", "name of the chain")
	f.StringVar(&at, "genesis-time", "", "when the chain begins, such as 2026-01-31T12:00:00Z (default: now)")
	f.DurationVar(&in, "genesis-in", 0, "how long from now the chain begins")
	f.StringVar(&flags.governance, "governance-key", "",
		"ed25519 public key in base64; its holder may change the validators")
	f.Uint64Var(&threshold, "agent-threshold", 0, "how many agents must agree; 0: the smallest safe number")
	f.Uint64Var(&offset, "reset-offset", 0, "allow resets of the chain, each to this many heights later "+
		"(at least 10)")
	flags.profile = string(comethome.Tuned)
	return cmd
}
