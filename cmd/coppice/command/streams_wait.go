package command

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
)

func (a *app) streamsWait() *cobra.Command {
	return &cobra.Command{
		Use:     "wait NAME HEIGHT",
		Short:   "Wait until the sink of a stream has a block, for at most --timeout",
		Long:    "Wait exits 0 when the sink has the block, else 1 with the state of the stream.",
		Example: "  coppice streams wait ledger 42 --timeout 1m",
		Args:    words("NAME", "HEIGHT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := parsePosition(cmd, "HEIGHT", args[1])
			if err != nil {
				return err
			}
			err = a.callStreams(cmd, func(ctx context.Context, c *client.Client) error {
				return c.WaitStream(ctx, args[0], at, a.timeout*9/10)
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s has height %s\n", args[0], placeText(at))
			return err
		},
	}
}
