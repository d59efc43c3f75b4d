package command

import (
	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/node/offline"
)

func (a *app) snapshotVerifyCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify [ID]",
		Short: "Read every byte of a snapshot and recompute its app hash",
		Long: `Verify checks the hash of each file of a snapshot, by default the newest, and scans the state in it.
The home may be running. Damage exits 5.`,
		Example: `  coppice snapshot verify
  coppice snapshot verify 0-1200-4811`,
		Args:              oneID,
		ValidArgsFunction: a.completeSnapshot,
		RunE: func(cmd *cobra.Command, args []string) error {
			show := newProgress()
			m, err := offline.VerifySnapshot(cmd.Context(), a.home, first(args), step(show, "verify"))
			show.end()
			if err != nil {
				return err
			}

			return printSnapshot(cmd, asJSON, "whole", m)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
