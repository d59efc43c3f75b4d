package main

import (
	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/node"
)

func (a *app) snapshotRestoreCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "restore [ID]",
		Short: "Make a snapshot the state of a stopped home",
		Long: `Restore verifies a snapshot, the newest if no ID is given, and puts a copy of it in the place of the state. The next start
applies what the log has after it, so nothing is lost. A snapshot that does not belong to the home's log is refused. A crash leaves the
old state or the new one.`,
		Example: `  coppice snapshot restore && coppice start`,
		Args:    oneID,
		RunE: func(cmd *cobra.Command, args []string) error {
			show := newProgress()
			m, err := node.RestoreSnapshot(cmd.Context(), a.home, first(args), step(show, "verify"))
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
