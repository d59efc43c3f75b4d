package command

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

func (a *app) parkedList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list NAME",
		Short:   "List the events that a stream has put aside, the oldest first",
		Example: "  coppice streams parked list ledger",
		Args:    words("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := a.parkedEvents(cmd, args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return printProto(cmd, &apiv1.ListParkedResponse{Events: list})
			}

			for _, e := range list {
				dropped := ""
				if e.Dropped {
					dropped = " (dropped)"
				}
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%d  %s  %s%s\n", e.Number,
					e.Time.AsTime().Format(time.RFC3339), e.Error, dropped); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
