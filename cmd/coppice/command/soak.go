package command

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/cmd/coppice/internal/soak"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/engines/consensus/solo"
)

// soakCommand is for the developers of coppice: "make soak" runs it.
func (a *app) soakCommand() *cobra.Command {
	c := soak.Config{}
	consensus := solo.Name
	cmd := &cobra.Command{
		Use:         "soak",
		Hidden:      true,
		Short:       "Kill a node under load by SIGKILL many times, and check its home each time",
		Args:        words(),
		Annotations: map[string]string{homeUse: homeUnused},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.Kills < 1 {
				return usageError(cmd, "--kills is %d, want at least 1", c.Kills)
			}
			if c.Rate <= 0 {
				return usageError(cmd, "--rate is %v, want more than 0", c.Rate)
			}

			switch consensus {
			case solo.Name:
			case comet.Name:
				c.Init = []string{"--consensus", consensus, "--p2p", "127.0.0.1:0", "--rpc", "127.0.0.1:0"}
			default:
				return usageError(cmd, "--consensus is %q, want %s or %s", consensus, solo.Name, comet.Name)
			}

			var err error
			if c.Bin, err = os.Executable(); err != nil {
				return err
			}

			out := cmd.OutOrStdout()
			c.Round = func(r soak.Round) {
				fmt.Fprintf(out, "kill %3d of %d  height %6d  verified  back in %4.0f ms  %4d acknowledged, %d "+
					"lost, %d twice\n",
					r.N, c.Kills, r.Height, ms(r.Down), r.Acknowledged, r.Lost, r.Twice)
			}
			res, err := soak.Run(cmd.Context(), c)
			if c.Keep {
				fmt.Fprintln(out, "kept:", res.Dir)
			}
			if err != nil {
				return fmt.Errorf("soak: %w", err)
			}

			_, err = fmt.Fprintf(out, "PASS: %d SIGKILLs in %v, seed %d; %d acknowledged, 0 lost, 0 twice; %d app "+
				"hashes compared up to height %d, all the same\n",
				res.Kills, res.Elapsed.Round(time.Second), c.Seed, res.Count.Acknowledged, res.Hashes, res.Height)

			return err
		},
	}
	f := cmd.Flags()
	f.IntVar(&c.Kills, "kills", 200, "how many SIGKILLs")
	f.Float64Var(&c.Rate, "rate", 1500, "transactions per second of the load, if the node keeps up")
	f.Uint64Var(&c.Seed, "seed", uint64(time.Now().UnixNano()), "seed of the moments of the kills")
	f.StringVar(&consensus, "consensus", consensus, "consensus of the node: solo, or cometbft with one validator")
	offer(cmd, "consensus", "solo", "cometbft")
	f.BoolVar(&c.Keep, "keep", false, "keep the home and the node's output")

	return cmd
}
