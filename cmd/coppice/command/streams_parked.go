package command

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

func (a *app) streamsParked() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "parked",
		Short: "Show, retry or drop the events that a stream has put aside",
		Long: `With on_reject = "park", an event that the sink or a codec refuses for good is put aside, and a
marker stands in its place in the sink.`,
		Example: "  coppice streams parked list ledger",
	}
	cmd.AddCommand(a.parkedList(), a.parkedShow(), a.parkedRetry(), a.parkedDrop())
	return cmd
}

// parkedEvents returns the parked events of a stream.
func (a *app) parkedEvents(cmd *cobra.Command, name string) (list []*apiv1.ParkedEvent, err error) {
	err = a.callStreams(cmd, func(ctx context.Context, c *client.Client) (err error) {
		list, err = c.ParkedEvents(ctx, name)
		return err
	})
	return list, err
}

func parkedNumber(cmd *cobra.Command, s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 {
		return 0, usageError(cmd, "NUMBER: %q, want a number from 1, as in 'streams parked list'", s)
	}
	return uint32(n), nil
}
