package command

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
)

func (a *app) streamsPreview() *cobra.Command {
	return &cobra.Command{
		Use:     "preview NAME HEIGHT",
		Short:   "Print a block as a stream delivers it, one event in JSON a line",
		Example: "  coppice streams preview ledger 42",
		Args:    words("NAME", "HEIGHT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := parsePosition(cmd, "HEIGHT", args[1])
			if err != nil {
				return err
			}

			var events [][]byte
			err = a.longCall(cmd, func(ctx context.Context, c *client.Client) (err error) {
				events, err = c.PreviewStream(ctx, args[0], at)
				return err
			})
			if err != nil {
				return err
			}

			for _, e := range events {
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", e); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
