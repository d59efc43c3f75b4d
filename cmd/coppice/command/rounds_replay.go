package command

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/node/offline"
)

// roundsReplayJSON is what "rounds replay --json" prints.
type roundsReplayJSON struct {
	Table    string                    `json:"table"`
	ChainID  string                    `json:"chain_id"`
	Blocks   uint64                    `json:"blocks"`
	Payloads uint64                    `json:"payloads"`
	From     uint64                    `json:"from"`
	Epoch    uint64                    `json:"epoch"`
	Height   uint64                    `json:"height"`
	First    *offline.RoundsDifference `json:"first_difference"`
}

func (a *app) roundsReplay() *cobra.Command {
	o := offline.VerifyOptions{Backends: a.program.backends()}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "replay [TABLE]",
		Short: "Run the program's tables over the log of a stopped home",
		Long: `Replay executes the logged blocks of a stopped home with the program's service, and names the first
block after which the round, its count, the period, the state of the apps or a reset of the chain
differs from the log, or says that none does. So a change of tables can be tried on real payloads
before a node runs it. TABLE is the label of the service; a program has one, so it may be left out.

It exits 1 if there is a difference: run the change on a new chain, or raise the version of the
tables. A longer timeout is a difference only where one fires. Other backends are not executed.
Replay changes nothing, and checks the home as 'coppice verify --skip-replay' does.`,
		Example: "  coppice rounds replay\n  coppice rounds replay OracleService --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.program.rounds()
			if err != nil {
				return err
			}
			label := r.service.Label()
			if len(args) > 0 && args[0] != label {
				return usageError(cmd, "TABLE is %q, and the service of this program is %s", args[0], label)
			}

			show := newProgress()
			o.Progress = steps(show)
			o.Fatal = fatal(cmd)
			v, err := offline.ReplayRounds(cmd.Context(), a.home, o)
			show.end()
			if err != nil {
				return err
			}

			out := cmd.OutOrStdout()
			if asJSON {
				j := roundsReplayJSON{label, v.ChainID, v.Blocks, v.Payloads, v.From, v.Epoch, v.Height, v.Difference}
				if err := printJSON(out, j); err != nil {
					return err
				}
			}

			switch d := v.Difference; {
			case d != nil:
				return fmt.Errorf("%s first differs from the log of chain %s at height %d, epoch %d, in %s:\n"+
					"  the log has %s\n  replayed    %s", label, v.ChainID, d.Height, d.Epoch, strings.Join(d.In, ", "),
					outcomeText(d.Was), outcomeText(d.Is))
			case asJSON:
				return nil
			case v.Blocks == 0:
				_, err = fmt.Fprintln(out, "nothing to replay: the log has no block")
			default:
				_, err = fmt.Fprintf(out, "%s: none of %d blocks differs (chain %s, heights %d to %d, %d payloads)\n",
					label, v.Blocks, v.ChainID, v.From, v.Height, v.Payloads)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func outcomeText(o offline.RoundsOutcome) string {
	reset := ""
	if o.Reset {
		reset = ", a reset is due"
	}
	return fmt.Sprintf("round %s, count %d, period %d%s, state %s", o.Round, o.Count, o.Period, reset, o.State)
}
