package command

import (
	"github.com/spf13/cobra"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

func (a *app) streamsPause() *cobra.Command {
	return &cobra.Command{
		Use:     "pause NAME",
		Short:   "Stop a stream until it is resumed; the log is kept for it",
		Example: "  coppice streams pause ledger",
		Args:    words("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.act(cmd, &apiv1.ActOnStreamRequest{Name: args[0],
				Act: &apiv1.ActOnStreamRequest_Pause{Pause: true}}, "paused")
		},
	}
}
