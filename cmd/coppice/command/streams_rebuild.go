package command

import (
	"github.com/spf13/cobra"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

func (a *app) streamsRebuild() *cobra.Command {
	return &cobra.Command{
		Use:   "rebuild NAME",
		Short: "Replace a sink's data by a snapshot of the state and what follows",
		Long: `Rebuild copies a snapshot of the state into a new generation of the sink's data, beside the present
one, puts it in its place, and goes on with the blocks after it. The blocks before are not in the
sink then. It goes on after a restart; "show" tells how much is done.`,
		Example: "  coppice streams rebuild ledger && coppice streams show ledger",
		Args:    words("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.act(cmd, &apiv1.ActOnStreamRequest{Name: args[0],
				Act: &apiv1.ActOnStreamRequest_Rebuild{Rebuild: true}}, "is being rebuilt")
		},
	}
}
