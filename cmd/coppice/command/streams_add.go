package command

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

func (a *app) streamsAdd() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "add FILE",
		Short: "Add a stream by its definition, NAME.toml",
		Long: `Add checks the definition and the sink's system, copies the file to HOME/streams, and starts the
stream. With --dry-run it only checks. Names of files in the definition are relative to
HOME/streams. A definition that cannot be used exits 3 and is named with line and column.`,
		Example: "  coppice streams add ledger.toml\n  coppice streams add ledger.toml --dry-run",
		Args:    words("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readDefinition(args[0])
			if err != nil {
				return err
			}
			name, ok := strings.CutSuffix(filepath.Base(args[0]), ".toml")
			if !ok {
				return usageError(cmd, "%s: want a file NAME.toml", args[0])
			}

			var notes []string
			err = a.longCall(cmd, func(ctx context.Context, c *client.Client) (err error) {
				notes, err = c.AddStream(ctx, &apiv1.AddStreamRequest{Name: name, Definition: text, DryRun: dryRun})
				return err
			})
			if err != nil {
				return err
			}

			done := "added"
			if dryRun {
				done = "can be added"
			}
			return printNotes(cmd, name, done, notes)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only check")
	return cmd
}
