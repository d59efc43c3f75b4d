package command

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
)

func (a *app) streamsExport() *cobra.Command {
	return &cobra.Command{
		Use:     "export NAME",
		Short:   "Print the definition of a stream, as TOML",
		Example: "  coppice streams export ledger > ledger.toml",
		Args:    words("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var text []byte
			err := a.callStreams(cmd, func(ctx context.Context, c *client.Client) (err error) {
				text, err = c.ExportStream(ctx, args[0])
				return err
			})
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
}
