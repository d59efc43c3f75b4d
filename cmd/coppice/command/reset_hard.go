package command

import (
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/node/exit"
)

func (a *app) resetHardCommand() *cobra.Command {
	var address, genesisTime, height, period string
	var from []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "hard",
		Short: "Drop CometBFT's data: begin a new chain, or fetch it from the peers",
		Long: `On a bare home, of 'coppice manager', hard stops CometBFT, removes its blocks and its address
book, gives the genesis another chain id, and starts CometBFT. The keys stay. The signing state
stays where it protects from signing twice, and the answer says what became of it. The application
must begin anew, too: it must answer Info with height 0. All validators of a chain must make the
same reset.

A chain id that was used before is safe: its signing state is put back. But a chain whose validators
have all signed on it cannot move below those heights; take another --period.

On a node of ours, hard rebuilds what CometBFT keeps of the present epoch: it begins anew at the
height of the node's own state, with blocks of the peers that prove themselves, and fetches the
later ones. Genesis, keys, signing state and all that the node has stay. It is refused if no peer
is ahead, and if another epoch is named: its chain is begun by all of its nodes together ('coppice
reset agree').

If no node runs in --home, hard orders the same there, and the next start carries it out. It needs
no readable data of CometBFT, so it mends what a start calls missing or damaged.`,
		Example: `  coppice reset hard --manager 127.0.0.1:8080 --period 4 --genesis-time 2026-01-31T12:00:00Z
  coppice reset hard --home DIR --from 10.0.0.8:26657,10.0.0.9:26657`,
		Args:        words(),
		Annotations: map[string]string{homeUse: homeUnused},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if address == "" && a.home != "" && a.notRunning() != nil {
				return a.orderRebuild(cmd, from, cmd.Flags().Changed("period") || genesisTime+height != "", asJSON)
			}
			if len(from) > 0 {
				return usageError(cmd, "--from is for a stopped home: a running node asks the peers that it knows")
			}

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
	cmd.Flags().StringSliceVar(&from, "from", nil, "RPC addresses of peers that a stopped home's next start asks")
	cmd.Flags().StringVar(&period, "period", "", "number at the end of the chain id (default 0)")
	cmd.Flags().StringVar(&height, "initial-height", "", "height of the first block (default 1)")
	cmd.Flags().StringVar(&genesisTime, "genesis-time", "", "RFC 3339 time of the genesis (default: it stays)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// orderRebuild writes the order to rebuild CometBFT's data into the stopped home.
func (a *app) orderRebuild(cmd *cobra.Command, from []string, renews, asJSON bool) error {
	if renews {
		return usageError(cmd, "--period, --initial-height and --genesis-time are for a bare home with --manager: a "+
			"node of ours keeps its epoch")
	}
	unlock, err := a.stopped()
	if err != nil {
		return err
	}
	defer unlock()

	dir := comethome.Dir(a.home)
	if err := comethome.OrderRebuild(dir, "coppice reset hard", from); err != nil {
		return exit.Classify(err)
	}

	said := resetAnswer{Message: "ordered: the next start rebuilds CometBFT's data from its peers", Status: true}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), said)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), said.Message)
	return err
}
