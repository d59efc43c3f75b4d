package command

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

func (a *app) streamsReplay() *cobra.Command {
	var into string
	cmd := &cobra.Command{
		Use:   "replay NAME FROM..TO --into FILE",
		Short: "Write blocks of the log into a second target",
		Long: `Replay writes the blocks from one height to another into the sink that FILE defines, as a stream of
this definition would. That sink is empty, or ends before FROM. The stream NAME is not touched.`,
		Example: "  coppice streams replay ledger 100..200 --into copy.toml",
		Args:    words("NAME", "FROM..TO"),
		RunE: func(cmd *cobra.Command, args []string) error {
			low, high, ok := strings.Cut(args[1], "..")
			if !ok {
				return usageError(cmd, "%q is no range, want FROM..TO", args[1])
			}
			from, err := parsePosition(cmd, "FROM", low)
			if err != nil {
				return err
			}
			to, err := parsePosition(cmd, "TO", high)
			if err != nil {
				return err
			}
			name, ok := strings.CutSuffix(filepath.Base(into), ".toml")
			if !ok {
				return usageError(cmd, "--into is %q, want a file NAME.toml", into)
			}
			text, err := readDefinition(into)
			if err != nil {
				return err
			}

			var r *apiv1.ReplayStreamResponse
			err = a.longCall(cmd, func(ctx context.Context, c *client.Client) (err error) {
				r, err = c.ReplayStream(ctx, &apiv1.ReplayStreamRequest{Name: args[0], From: from, To: to, Into: name,
					Definition: text})
				return err
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d events, stands at height %s\n", name, r.Events,
				placeText(r.At))
			return err
		},
	}
	cmd.Flags().StringVar(&into, "into", "", "definition of the second target, NAME.toml")
	cmd.MarkFlagRequired("into")
	return cmd
}
