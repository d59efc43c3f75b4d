package command

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

func (a *app) streamsEdit() *cobra.Command {
	var dryRun, fromHere, rebuild bool
	cmd := &cobra.Command{
		Use:   "edit NAME FILE",
		Short: "Give a stream another definition",
		Long: `Edit checks the definition and the sink's system, and makes it that of the stream. A definition that
changes what the sink holds (filter, codecs, what is delivered) is refused, unless --from-here lets
a paused stream go on under it from where the sink stands; an event redefined marks the place. With
--rebuild the sink begins anew under it, with a snapshot of the state; readers see the old data
until the new ones are there. With --dry-run it only checks.`,
		Example: "  coppice streams edit ledger ledger.toml --dry-run\n" +
			"  coppice streams pause ledger && coppice streams edit ledger ledger.toml --from-here\n" +
			"  coppice streams edit ledger ledger.toml --rebuild",
		Args: words("NAME", "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if fromHere && rebuild {
				return usageError(cmd, "--from-here and --rebuild exclude each other")
			}
			text, err := readDefinition(args[1])
			if err != nil {
				return err
			}

			var notes []string
			err = a.longCall(cmd, func(ctx context.Context, c *client.Client) (err error) {
				notes, err = c.EditStream(ctx, &apiv1.EditStreamRequest{Name: args[0], Definition: text, DryRun: dryRun,
					FromHere: fromHere, Rebuild: rebuild, By: operator()})
				return err
			})
			if err != nil {
				return err
			}

			done := "changed"
			if dryRun {
				done = "can be changed"
			}
			return printNotes(cmd, args[0], done, notes)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only check")
	cmd.Flags().BoolVar(&fromHere, "from-here", false, "go on under another definition from where the sink stands")
	cmd.Flags().BoolVar(&rebuild, "rebuild", false, "begin anew under another definition, with a snapshot of the state")
	return cmd
}
