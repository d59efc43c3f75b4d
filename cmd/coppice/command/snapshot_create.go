package command

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/node/offline"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

func (a *app) snapshotCreateCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Take a snapshot of a running node or a stopped home",
		Long: `Create returns when the snapshot is verified and durable. A running node goes on committing
meanwhile. If the state has not changed since the newest snapshot, create returns that one.`,
		Example: `  coppice snapshot create
  coppice snapshot create --json | jq -r .id`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			var made snapshotJSON
			var fresh bool
			err := error(nil)

			if a.address == "" {
				show := newProgress()
				var m snapshots.Manifest
				m, fresh, err = offline.CreateSnapshot(ctx, a.home, offline.SnapshotOptions{
					Program: program(), Progress: step(show, "snapshot"), Fatal: fatal(cmd),
				})
				show.end()
				made = snapshotFrom(m)
			}

			if a.running(err) {
				var s *apiv1.Snapshot
				if s, fresh, err = a.client().CreateSnapshot(ctx); err != nil {
					return a.nodeError(ctx, err)
				}
				made = snapshotOf(s)
			}
			if err != nil {
				return err
			}

			out := cmd.OutOrStdout()

			if asJSON {
				made.Fresh = &fresh
				return printJSON(out, made)
			}

			was := ""
			if !fresh {
				was = " (taken before; the state has not changed since)"
			}

			_, err = fmt.Fprintf(out, "snapshot %s: %s at height %d, app hash %s, %d bytes%s\n", made.ID, made.ChainID,
				made.Height, made.AppHash, made.Bytes, was)

			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
