package command

import (
	"github.com/spf13/cobra"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

func (a *app) parkedRetry() *cobra.Command {
	return &cobra.Command{
		Use:   "retry NAME",
		Short: "Deliver the events that a paused stream has put aside again",
		Long: `Retry removes from the sink the blocks from that of the oldest parked event on. They come again once
the stream is resumed. What is refused again is parked again.`,
		Example: `  coppice streams pause ledger && coppice streams parked retry ledger &&
    coppice streams resume ledger`,
		Args: words("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.act(cmd, &apiv1.ActOnStreamRequest{Name: args[0],
				Act: &apiv1.ActOnStreamRequest_RetryParked{RetryParked: true}}, "tries them again once it is resumed")
		},
	}
}
