package command

import (
	"github.com/spf13/cobra"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

func (a *app) streamsResume() *cobra.Command {
	var takeOver bool
	cmd := &cobra.Command{
		Use:   "resume NAME",
		Short: "Start a paused stream, or take over its sink",
		Long: `Resume starts a paused stream. With --take-over, this node becomes the writer of a sink that it does
not know as its own (detached), or that another node writes (fenced).`,
		Example: "  coppice streams resume ledger\n  coppice streams resume ledger --take-over",
		Args:    words("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.act(cmd, &apiv1.ActOnStreamRequest{Name: args[0],
				Act: &apiv1.ActOnStreamRequest_Resume{Resume: &apiv1.StreamResume{TakeOver: takeOver}}}, "resumed")
		},
	}
	cmd.Flags().BoolVar(&takeOver, "take-over", false, "become the writer of the sink")
	return cmd
}
