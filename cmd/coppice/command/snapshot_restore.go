package command

import (
	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/node/offline"
)

func (a *app) snapshotRestoreCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "restore [ID]",
		Short: "Replace the state of a stopped home with a snapshot",
		Long: `Restore verifies a snapshot, by default the newest, and replaces the state with a copy of it. The
next start applies the records of the log after it, so nothing is lost. Restore refuses a snapshot
that does not belong to the home's log. A crash leaves either the old state or the new one.`,
		Example:           `  coppice snapshot restore && coppice start`,
		Args:              oneID,
		ValidArgsFunction: a.completeSnapshot,
		RunE: func(cmd *cobra.Command, args []string) error {
			show := newProgress()
			m, err := offline.RestoreSnapshot(cmd.Context(), a.home, first(args), step(show, "verify"))
			show.end()
			if err != nil {
				return err
			}

			return printSnapshot(cmd, asJSON, "restored", m)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
