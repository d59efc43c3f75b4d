package command

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/offline"
)

func (a *app) restoreCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "restore SRC",
		Short: "Make a new home from a backup",
		Long: `Restore makes the home that --home names from a backup. The home must be empty or not exist. It
appears complete or not at all. Restore verifies every byte of the backup, and compares the new
home's state with its log. The new home gets a log and an admin token of its own.

To restore a snapshot of a home, see 'coppice snapshot restore'.`,
		Example: `  coppice restore /backups/2026-11-22 --home /srv/coppice && coppice start --home /srv/coppice`,
		Args:    words("SRC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.home == "" {
				return usageError(cmd, "--home is empty: want the directory for the new home")
			}
			if _, err := os.Stat(args[0]); err != nil {
				return fmt.Errorf("%w: %w", exit.ErrConfig, err)
			}

			show := newProgress()
			info, err := offline.Restore(cmd.Context(), args[0], a.home, steps(show))
			show.end()
			if err != nil {
				return err
			}

			out := cmd.OutOrStdout()
			if asJSON {
				return printJSON(out, info)
			}

			_, err = fmt.Fprintf(out, "restored %s at height %d, app hash %v, in %s\n", info.ChainID, info.Height,
				info.AppHash, a.home)

			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
