package command

import (
	"github.com/spf13/cobra"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

func (a *app) parkedDrop() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:     "drop NAME [NUMBER...]",
		Short:   "Give parked events up: their markers stay in the sink",
		Example: "  coppice streams parked drop ledger 1 2\n  coppice streams parked drop ledger --all",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all != (len(args) == 1) {
				return usageError(cmd, "want numbers of events, or --all")
			}
			var numbers []uint32
			for _, s := range args[1:] {
				n, err := parkedNumber(cmd, s)
				if err != nil {
					return err
				}
				numbers = append(numbers, n)
			}
			return a.act(cmd, &apiv1.ActOnStreamRequest{Name: args[0],
				Act: &apiv1.ActOnStreamRequest_DropParked{DropParked: &apiv1.StreamParked{Numbers: numbers}}},
				"dropped")
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "drop all")
	return cmd
}
