package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/storage/snapshots"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/exit"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// snapshotJSON is a snapshot as "snapshot … --json" prints it.
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
	return snapshotOf(node.SnapshotProto(snapshots.Entry{ID: m.ID, Manifest: m}))
}

func (a *app) snapshotCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Take, list, verify and restore snapshots of the state",
		Long: `A snapshot is a copy of the state at one height, in data/snapshots of the home. A running node takes them by itself
(snapshots.every_bytes) and keeps the newest few (snapshots.keep). Each was scanned, and its app hash recomputed, before it
is listed. docs/storage.md says more.`,
	}

	cmd.AddCommand(a.snapshotCreateCommand(), a.snapshotListCommand(), a.snapshotVerifyCommand(),
		a.snapshotRestoreCommand())
	return cmd
}

// running tells whether the command is to ask a node: one that an address names, or one that has
// the home.
func (a *app) running(err error) bool { return a.address != "" || errors.Is(err, exit.ErrHomeInUse) }

func program() string { return "coppice " + buildVersion().Version }

// steps shows how far a step has come.
func steps(show *progress) func(step string, done, total uint64) {
	return func(step string, done, total uint64) {
		select {
		case <-show.tick:
			if total == 0 {
				show.line(step)
				return
			}
			show.line(fmt.Sprintf("%s: %d %% (%d of %d)", step, 100*done/total, done, total))
		default:
		}
	}
}

func step(show *progress, name string) func(done, total uint64) {
	f := steps(show)
	return func(done, total uint64) { f(name, done, total) }
}

func (a *app) snapshotCreateCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Take a snapshot of a running node or of a stopped home",
		Long: `Create returns when the snapshot is verified and durable. On a running node commits go on meanwhile. Where the state has
not moved since the newest snapshot, that is the answer.`,
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
				m, fresh, err = node.CreateSnapshot(ctx, a.home, node.SnapshotOptions{
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
				was = " (it was there already: the state has not moved)"
			}

			_, err = fmt.Fprintf(out, "snapshot %s: %s at height %d, app hash %s, %d bytes%s\n", made.ID, made.ChainID,
				made.Height, made.AppHash, made.Bytes, was)

			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) snapshotListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the snapshots of a home, the oldest state first",
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
				list, err := node.Snapshots(a.home)
				if err != nil {
					return err
				}
				for _, e := range list {
					all = append(all, snapshotOf(node.SnapshotProto(e)))
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

// oneID is the Args of a command that takes a snapshot's id, or none for the newest.
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

func (a *app) snapshotVerifyCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify [ID]",
		Short: "Read every byte of a snapshot and recompute its app hash; damage exits 5",
		Long: `Verify checks the hash of each file of a snapshot, the newest if no ID is given, and scans the state in it. The home may be
running.`,
		Example: `  coppice snapshot verify
  coppice snapshot verify 0-1200-4811`,
		Args: oneID,
		RunE: func(cmd *cobra.Command, args []string) error {
			show := newProgress()
			m, err := node.VerifySnapshot(cmd.Context(), a.home, first(args), step(show, "verify"))
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

func printSnapshot(cmd *cobra.Command, asJSON bool, what string, m snapshots.Manifest) error {
	out := cmd.OutOrStdout()
	if asJSON {
		return printJSON(out, snapshotFrom(m))
	}
	_, err := fmt.Fprintf(out, "%s: snapshot %s of %s at height %d, app hash %v\n", what, m.ID, m.ChainID,
		m.Height, m.AppHash)
	return err
}

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
