package command

import (
	"github.com/spf13/cobra"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

func (a *app) streamsRewind() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "rewind NAME --to HEIGHT|common",
		Short: "Remove the blocks after a height from the sink of a paused stream",
		Long: `Rewind removes what the sink has after the height. Resume the stream, and it comes again. The height
"common" is the last block up to which the sink agrees with this node's log.`,
		Example: `  coppice streams pause ledger && coppice streams rewind ledger --to 42
  coppice streams rewind ledger --to common`,
		Args: words("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "common" {
				return a.act(cmd, &apiv1.ActOnStreamRequest{Name: args[0],
					Act: &apiv1.ActOnStreamRequest_RewindCommon{RewindCommon: true}}, "agrees with the log")
			}
			at, err := parsePosition(cmd, "--to", to)
			if err != nil {
				return err
			}
			return a.act(cmd, &apiv1.ActOnStreamRequest{Name: args[0],
				Act: &apiv1.ActOnStreamRequest_Rewind{Rewind: at}}, "stands at height "+placeText(at))
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "height that the sink keeps, or common")
	cmd.MarkFlagRequired("to")
	return cmd
}
