package command

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/node/offline"
	"github.com/coppice-go/coppice/node/retention"
)

func (a *app) snapshotListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the snapshots of a home, oldest state first",
		Example: `  coppice snapshot list`,
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := []snapshotJSON{}
			if a.address != "" {
				list, err := a.client().Snapshots(cmd.Context())
				if err != nil {
					return a.nodeError(cmd.Context(), err)
				}
				for _, s := range list {
					all = append(all, snapshotOf(s))
				}
			} else {
				list, err := offline.Snapshots(a.home)
				if err != nil {
					return err
				}
				for _, e := range list {
					all = append(all, snapshotOf(retention.SnapshotProto(e)))
				}
			}

			if asJSON {
				return printJSON(cmd.OutOrStdout(), all)
			}
			return listSnapshots(cmd.OutOrStdout(), all)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func listSnapshots(out io.Writer, all []snapshotJSON) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(out, "no snapshots")
		return err
	}

	for _, s := range all {
		if s.Problem != "" {
			if _, err := fmt.Fprintf(out, "%s: %s\n", s.ID, s.Problem); err != nil {
				return err
			}
			continue
		}

		from := ""
		if s.Source != "" {
			from = ", from " + s.Source
		}

		if _, err := fmt.Fprintf(out, "%-24s %s, height %d, record %d, %d bytes, app hash %.16s…, taken %s%s\n",
			s.ID, s.ChainID, s.Height, s.Index, s.Bytes, s.AppHash, s.Created.Format(time.RFC3339), from); err != nil {
			return err
		}
	}

	return nil
}
