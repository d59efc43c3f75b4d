package command

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/node/offline"
)

// pruneJSON is what "prune --json" prints.
type pruneJSON struct {
	DryRun  bool      `json:"dry_run"`
	ChainID string    `json:"chain_id"`
	Height  uint64    `json:"height"`
	State   partJSON  `json:"state"`
	Snaps   *partJSON `json:"snapshots,omitempty"`
	Log     partJSON  `json:"log"`
	Blocks  *partJSON `json:"blocks,omitempty"`

	// Evidence is the lowest height below those of Blocks whose header stays.
	Evidence uint64 `json:"evidence,omitempty"`
}

// partJSON is a part of a home: what it had from First to Last, and has from Kept to Last.
type partJSON struct {
	First uint64     `json:"first"`
	Kept  uint64     `json:"kept"`
	Last  uint64     `json:"last"`
	Holds []holdJSON `json:"holds"`
	Sizes []sizeJSON `json:"sizes"`
}

type holdJSON struct {
	Name  string `json:"name"`
	First uint64 `json:"first"`
}

type sizeJSON struct {
	Name   string `json:"name"`
	Before int64  `json:"bytes_before"`
	After  int64  `json:"bytes_after"`
}

func (a *app) pruneCommand() *cobra.Command {
	var o offline.PruneOptions
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove from a stopped home, at once, what retention would remove",
		Long: `Prune removes what a running node would remove in the end: old versions of the state, snapshots
beyond snapshots.keep, segments of the log that nobody needs, and old blocks and states of CometBFT.
The configuration says how much stays. --keep-heights or --before take the place of
retention.versions and consensus.retain_blocks; log.retain says what becomes of the log.

Prune never removes what a restart, an acknowledged transaction, a snapshot, a follower of the log,
evidence or a light client needs. It prints what holds each part. It checks the home first and
refuses a damaged one. It may be interrupted at any time, and run again.

What is removed is gone: make a backup first if you may want to read it.`,
		Example: `  coppice prune --dry-run
  coppice prune --keep-heights 10000
  coppice prune --before 1200000 --json`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, name := range []string{"keep-heights", "before"} {
				if f := cmd.Flags().Lookup(name); f.Changed && f.Value.String() == "0" {
					return usageError(cmd, "--%s is 0, want a number from 1", name)
				}
			}
			if o.KeepHeights > 0 && o.Before > 0 {
				return usageError(cmd, "--keep-heights and --before exclude each other")
			}

			show := newProgress()
			o.Progress, o.Fatal = steps(show), fatal(cmd)
			p, err := offline.Prune(cmd.Context(), a.home, o)
			show.end()
			if err != nil {
				return interruptedWhole(cmd.Context(), err)
			}

			j := pruneJSON{DryRun: o.DryRun, ChainID: p.ChainID, Height: p.Height, State: partOf(p.State),
				Log: partOf(p.Log), Evidence: p.Evidence}
			if p.Snapshots.Last > 0 {
				snaps := partOf(p.Snapshots)
				j.Snaps = &snaps
			}
			if p.Blocks.Last > 0 {
				blocks := partOf(p.Blocks)
				j.Blocks = &blocks
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), j)
			}

			return j.print(cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.Uint64Var(&o.KeepHeights, "keep-heights", 0, "how many of the newest heights stay, of the state and of blocks")
	f.Uint64Var(&o.Before, "before", 0, "the lowest height that stays, of the state and of blocks")
	f.StringSliceVar(&o.Forget, "forget", nil, "names of followers of the log that do not come back")
	f.BoolVar(&o.DryRun, "dry-run", false, "change nothing, and print what would be removed")
	f.BoolVar(&asJSON, "json", false, "print JSON")

	return cmd
}

// interruptedWhole adds to the error of an interrupted command that nothing is broken.
func interruptedWhole(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("%w; the home is whole: run the command again to complete its work", err)
}

func partOf(p offline.Part) partJSON {
	j := partJSON{First: p.First, Kept: p.Kept, Last: p.Last, Holds: []holdJSON{}, Sizes: sizesOf(p.Sizes)}
	for _, h := range p.Holds {
		j.Holds = append(j.Holds, holdJSON{h.Name, h.First})
	}
	return j
}

func sizesOf(sizes []consensus.Size) []sizeJSON {
	list := []sizeJSON{}
	for _, s := range sizes {
		list = append(list, sizeJSON(s))
	}
	return list
}

// print prints one paragraph for each part: what stays, what it takes, and what holds it.
func (j pruneJSON) print(out io.Writer) error {
	var b strings.Builder
	j.State.print(&b, "state", "heights", j.DryRun)
	if j.Snaps != nil {
		j.Snaps.print(&b, "snapshots", "heights", j.DryRun)
	}
	j.Log.print(&b, "log", "records", j.DryRun)
	if j.Blocks != nil {
		j.Blocks.print(&b, "blocks", "heights", j.DryRun)
		if j.Evidence > 0 {
			fmt.Fprintf(&b, "  headers, commits and validators stay from %d on: evidence\n", j.Evidence)
		}
	}
	if j.DryRun {
		fmt.Fprintln(&b, "nothing was changed")
	}

	_, err := io.WriteString(out, b.String())
	return err
}

// print prints a part.
func (p partJSON) print(b *strings.Builder, name, unit string, dryRun bool) {
	stay := "stay"
	if dryRun {
		stay = "would stay"
	}

	if p.Last == 0 {
		fmt.Fprintf(b, "%-10s nothing\n", name)
		return
	}
	fmt.Fprintf(b, "%-10s %s %d to %d: %d to %d %s\n", name, unit, p.First, p.Last, p.Kept, p.Last, stay)

	for _, s := range p.Sizes {
		if dryRun {
			fmt.Fprintf(b, "  %s: %s\n", s.Name, byteCount(s.Before))
		} else {
			fmt.Fprintf(b, "  %s: %s before, %s after\n", s.Name, byteCount(s.Before), byteCount(s.After))
		}
	}
	for _, h := range p.Holds {
		fmt.Fprintf(b, "  from %d on: %s\n", h.First, h.Name)
	}
}
