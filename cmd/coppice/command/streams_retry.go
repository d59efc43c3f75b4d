package command

import (
	"github.com/spf13/cobra"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

func (a *app) streamsRetry() *cobra.Command {
	return &cobra.Command{
		Use:     "retry NAME",
		Short:   "Make a stream that waits or has failed try again at once",
		Example: "  coppice streams retry ledger",
		Args:    words("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.act(cmd, &apiv1.ActOnStreamRequest{Name: args[0],
				Act: &apiv1.ActOnStreamRequest_Retry{Retry: true}}, "tries again")
		},
	}
}
