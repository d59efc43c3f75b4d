package command

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/node/exit"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

func (a *app) streamsVerify() *cobra.Command {
	var from, to string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify NAME",
		Short: "Compare what a sink holds with the log, and name each fault",
		Long: `Verify reads what the sink holds, computes every digest again, and compares event by event with the
log. It names events that are lost, doubled, changed, swapped or foreign, and other damage, and then
exits 5. Heights that the log no longer has are left out.`,
		Example: "  coppice streams verify ledger\n  coppice streams verify ledger --from 100 --to 200",
		Args:    words("NAME"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			req := &apiv1.VerifyStreamRequest{Name: args[0]}
			if from != "" {
				if req.From, err = parsePosition(cmd, "--from", from); err != nil {
					return err
				}
			}
			if to != "" {
				if req.To, err = parsePosition(cmd, "--to", to); err != nil {
					return err
				}
			}

			if f, t := req.From, req.To; f != nil && t != nil && cmp.Or(cmp.Compare(f.Period, t.Period),
				cmp.Compare(f.Height, t.Height)) > 0 {
				return usageError(cmd, "--from %s is above --to %s", from, to)
			}
			var r *apiv1.VerifyStreamResponse
			err = a.longCall(cmd, func(ctx context.Context, c *client.Client) (err error) {
				r, err = c.VerifyStream(ctx, req)
				return err
			})
			if err != nil {
				return err
			}
			if err := printVerified(cmd, r, asJSON); err != nil {
				return err
			}
			if r.Faults > 0 {
				return &exitError{exit.Damage, fmt.Errorf("the sink of %s has %d faults", args[0], r.Faults)}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "first height; the log's first block if empty")
	cmd.Flags().StringVar(&to, "to", "", "last height; where the sink stands if empty")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printVerified(cmd *cobra.Command, r *apiv1.VerifyStreamResponse, asJSON bool) error {
	if asJSON {
		return printProto(cmd, r)
	}

	for _, f := range r.Findings {
		if f.Fault == string(streams.FaultDamaged) { // it has no place
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", f.Fault, f.Text); err != nil {
				return err
			}
			continue
		}
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: event %d of height %s %s\n", f.Fault, f.Index,
			placeText(&apiv1.StreamPosition{Period: f.Period, Height: f.Height}), f.Text); err != nil {
			return err
		}
	}
	left := ""
	if r.Older != nil {
		left = fmt.Sprintf("; not compared: the blocks up to height %s, which follow an older definition",
			placeText(r.Older))
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%d blocks, %d events, %d faults%s\n", r.Units, r.Events, r.Faults, left)
	return err
}
