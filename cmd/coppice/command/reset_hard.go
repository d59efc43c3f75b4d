package command

import (
	"net/url"

	"github.com/spf13/cobra"
)

func (a *app) resetHardCommand() *cobra.Command {
	var address, genesisTime, height, period string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "hard",
		Short: "Drop the chain of a manager's home, and begin a new one",
		Long: `Hard stops CometBFT, removes its blocks and its address book, gives the genesis another chain id,
and starts CometBFT. The keys stay. The signing state stays where it protects from signing twice,
and the answer says what became of it. The application must begin anew, too: it must answer Info
with height 0. All validators of a chain must make the same reset.

A chain id that was used before is safe: its signing state is put back. But a chain whose validators
have all signed on it cannot move below those heights; take another --period.

A node of ours refuses, with the reason: its chain is begun by all of its nodes together.`,
		Example:     `  coppice reset hard --manager 127.0.0.1:8080 --period 4 --genesis-time 2026-01-31T12:00:00Z`,
		Args:        words(),
		Annotations: map[string]string{homeUse: homeUnused},
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			for name, value := range map[string]string{"genesis_time": genesisTime, "initial_height": height,
				"period_count": period} {
				if value != "" {
					query.Set(name, value)
				}
			}
			return a.reset(cmd, address, "/hard_reset", query, asJSON)
		},
	}
	managerFlag(cmd, &address)
	cmd.Flags().StringVar(&period, "period", "", "number at the end of the chain id (default 0)")
	cmd.Flags().StringVar(&height, "initial-height", "", "height of the first block (default 1)")
	cmd.Flags().StringVar(&genesisTime, "genesis-time", "", "RFC 3339 time of the genesis (default: it stays)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
