package command

import (
	"github.com/spf13/cobra"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

func (a *app) streamsDrop() *cobra.Command {
	var forget bool
	cmd := &cobra.Command{
		Use:   "drop NAME",
		Short: "Forget a stream: its definition, its slot and its hold on the log",
		Long: `Drop removes the stream from this node, also one whose slot file cannot be read. With --forget-sink
it also removes what the stream has made in the external system.`,
		Example: "  coppice streams drop ledger",
		Args:    words("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.act(cmd, &apiv1.ActOnStreamRequest{Name: args[0],
				Act: &apiv1.ActOnStreamRequest_Drop{Drop: &apiv1.StreamDrop{ForgetSink: forget}}}, "dropped")
		},
	}
	cmd.Flags().BoolVar(&forget, "forget-sink", false, "also remove what it has made in the external system")
	return cmd
}
