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
	var asJSON, peers bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the snapshots of a home, oldest state first",
		Long: `List prints the snapshots from which the home itself can be restored. With --peers, it prints those
that a node with CometBFT offers to nodes that join by state sync.`,
		Example: `  coppice snapshot list
  coppice snapshot list --peers`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if peers {
				return a.listPeerSnapshots(cmd, asJSON)
			}

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
	cmd.Flags().BoolVar(&peers, "peers", false, "list the snapshots for nodes that join")
	return cmd
}

// listPeerSnapshots prints the snapshots that the home offers to its peers.
func (a *app) listPeerSnapshots(cmd *cobra.Command, asJSON bool) error {
	if a.address != "" {
		return usageError(cmd, "--address does not go with --peers, which reads the files of --home")
	}
	list, err := offline.PeerSnapshots(a.home)
	if err != nil {
		return err
	}

	out, all := cmd.OutOrStdout(), []portableJSON{}
	for _, m := range list {
		all = append(all, portableOf(m, ""))
	}
	if asJSON {
		return printJSON(out, all)
	}

	if len(all) == 0 {
		_, err = fmt.Fprintln(out, "no snapshots for peers")
	}
	for _, s := range all {
		if _, err := fmt.Fprintf(out, "%-24s %s, height %d, %d keys, %s in %d chunks, app hash %.16s…\n", s.ID,
			s.ChainID, s.Height, s.Keys, byteCount(int64(s.Bytes)), s.Chunks, s.AppHash); err != nil {
			return err
		}
	}
	return err
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
