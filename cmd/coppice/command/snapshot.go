package command

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/node/retention"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// snapshotJSON is how "snapshot … --json" prints a snapshot.
type snapshotJSON struct {
	ID      string    `json:"id"`
	ChainID string    `json:"chain_id"`
	Period  uint64    `json:"period"`
	Height  uint64    `json:"height"`
	AppHash string    `json:"app_hash"`
	Index   uint64    `json:"index"`
	LogID   string    `json:"log_id"`
	Created time.Time `json:"created"`
	Program string    `json:"program"`
	Source  string    `json:"source,omitempty"`
	Bytes   int64     `json:"bytes"`
	Problem string    `json:"problem,omitempty"`
	Fresh   *bool     `json:"fresh,omitempty"`
}

func snapshotOf(s *apiv1.Snapshot) snapshotJSON {
	return snapshotJSON{
		ID: s.Id, ChainID: s.ChainId, Period: s.Period, Height: s.Height, AppHash: fmt.Sprintf("%x", s.AppHash),
		Index: s.Index,
		LogID: fmt.Sprintf("%x", s.LogId), Created: s.Created.AsTime(), Program: s.Program, Source: s.Source,
		Bytes: s.Bytes, Problem: s.Problem,
	}
}

func snapshotFrom(m snapshots.Manifest) snapshotJSON {
	return snapshotOf(retention.SnapshotProto(snapshots.Entry{ID: m.ID, Manifest: m}))
}

func (a *app) snapshotCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Take, list, verify, restore, export and import snapshots of the state",
		Long: `A snapshot is a copy of the state at one height, in data/snapshots of the home. A running node takes
snapshots by itself (snapshots.every_bytes) and keeps the newest few (snapshots.keep). Before a
snapshot is listed, it is scanned and its app hash is recomputed. See docs/storage.md.`,
		Example: `  coppice snapshot create
  coppice snapshot restore && coppice start`,
	}

	cmd.AddCommand(a.snapshotCreateCommand(), a.snapshotListCommand(), a.snapshotVerifyCommand(),
		a.snapshotRestoreCommand(), a.snapshotOfferCommand(), a.snapshotExportCommand(), a.snapshotImportCommand())
	return cmd
}

// oneID is the Args of a command that takes the id of a snapshot, or nothing for the newest.
func oneID(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("%d arguments, want one ID at most", len(args))
	}
	return nil
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

func printSnapshot(cmd *cobra.Command, asJSON bool, what string, m snapshots.Manifest) error {
	out := cmd.OutOrStdout()
	if asJSON {
		return printJSON(out, snapshotFrom(m))
	}
	_, err := fmt.Fprintf(out, "%s: snapshot %s of %s at height %d, app hash %v\n", what, m.ID, m.ChainID,
		m.Height, m.AppHash)
	return err
}
