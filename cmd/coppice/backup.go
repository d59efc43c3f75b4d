package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/api"
)

func (a *app) backupCommand() *cobra.Command {
	var asJSON, withToken bool
	cmd := &cobra.Command{
		Use:   "backup DEST",
		Short: "Copy a running node or a stopped home into a directory",
		Long: `Backup writes a snapshot of the state, the records of the log that it takes to bring it to the end, the genesis and the
configuration. Everything that was acknowledged before the call is in it. The node goes on meanwhile. DEST must not exist or be
empty; it appears whole and verified, or not at all.

The admin token is left out, and so are the keys of a CometBFT home.`,
		Example: `  coppice backup /backups/$(date +%F)
  coppice restore /backups/2026-11-22 --home /srv/coppice`,
		Args: words("DEST"),
		RunE: func(cmd *cobra.Command, args []string) error {
			show := newProgress()
			info, err := a.backup(cmd.Context(), args[0], withToken, steps(show))
			show.end()
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				return printJSON(out, info)
			}
			_, err = fmt.Fprintf(out, "backup of %s at height %d, app hash %v: snapshot %s and records %d to %d, verified\n",
				info.ChainID, info.Height, info.AppHash, info.Snapshot, info.First, info.Last)
			return err
		},
	}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.BoolVar(&withToken, "with-token", false, "put the admin token into the backup; whoever has it then holds power over the node")
	return cmd
}

// backup has the running node make the backup, or makes it of a stopped home.
func (a *app) backup(ctx context.Context, dest string, withToken bool, progress func(string, uint64, uint64)) (info node.BackupInfo, err error) {
	var token []byte
	if withToken {
		if token, err = os.ReadFile(filepath.Join(a.home, api.TokenFileName)); err != nil {
			return info, err
		}
	}
	if a.address == "" {
		info, err = node.Backup(ctx, a.home, dest, node.BackupOptions{Program: program(), Token: token, Progress: progress})
	}
	if !a.running(err) {
		return info, err
	}
	w, err := node.NewBackupWriter(dest, node.BackupOptions{Program: program(), Token: token, Progress: progress})
	if err != nil {
		return info, err
	}
	defer w.Abandon()
	if err := a.client().Backup(ctx, w.Take); err != nil {
		return info, a.nodeError(ctx, err)
	}
	return w.Finish(ctx)
}

func (a *app) restoreCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "restore SRC",
		Short: "Make a new home of a backup",
		Long: `Restore makes the home that --home names of a backup. The home must not exist or be empty. Every byte of the backup is
verified, and the new home's state and log are held against each other; it appears whole or not at all. It gets a log and an admin
token of its own. For the snapshots of a home see 'coppice snapshot restore'.`,
		Example: `  coppice restore /backups/2026-11-22 --home /srv/coppice && coppice start --home /srv/coppice`,
		Args:    words("SRC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.home == "" {
				return usageError(cmd, "--home is empty: want where the new home is to be")
			}
			if _, err := os.Stat(args[0]); err != nil {
				return fmt.Errorf("%w: %w", node.ErrConfig, err)
			}
			show := newProgress()
			info, err := node.RestoreBackup(cmd.Context(), args[0], a.home, steps(show))
			show.end()
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				return printJSON(out, info)
			}
			_, err = fmt.Fprintf(out, "restored %s at height %d, app hash %v, in %s\n", info.ChainID, info.Height, info.AppHash, a.home)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
