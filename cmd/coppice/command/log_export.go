package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/cmd/coppice/internal/logstream"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/internal/durable"
	"github.com/coppice-go/coppice/internal/flock"
	"github.com/coppice-go/coppice/node/exit"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// sortedKinds returns the kinds of a selection as numbers, in order.
func (s *selection) sortedKinds() (kinds []uint32) {
	for _, k := range s.kinds {
		kinds = append(kinds, uint32(k))
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

func (a *app) logExportCommand() *cobra.Command {
	var sel selection
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "export FILE|-",
		Short: "Write the log of a stopped home to a file for import and other programs",
		Long: `Export writes the records, each with its index, kind and bytes, and then a digest of all of them.
The format is length-delimited protobuf messages, or with --json a JSON object per line;
proto/coppice/log/v1/export.proto defines both. The file gets its name when it is complete and
durable. 'coppice log import' makes a log from it, unless --kinds left out records.`,
		Example: `  coppice log export backup.log
  coppice log export - | zstd > backup.log.zst
  coppice log export --json --kinds BlockCommitted - | jq -r .record.data`,
		Args: words("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := sel.resolve(cmd); err != nil {
				return err
			}

			events, end := logProgress("checked")
			l, err := a.openLog(eventlog.Options{Events: events})
			end()
			if err != nil {
				return err
			}
			defer l.Close()

			if sel.from != 0 && sel.from < l.First() {
				return fmt.Errorf("--from is %d, the first record that is kept is %d", sel.from, l.First())
			}
			if sel.to > l.Durable() {
				return fmt.Errorf("--to is %d, the last record is %d", sel.to, l.Durable())
			}

			var records uint64
			var gaps int
			write := func(w io.Writer) (err error) {
				records, gaps, err = sel.export(cmd, l, logstream.NewWriter(w, asJSON))
				return err
			}

			if args[0] == "-" {
				err = write(cmd.OutOrStdout())
			} else {
				err = writeFile(cmd.Context(), args[0], write)
			}
			if err != nil {
				return err
			}

			fmt.Fprintf(cmd.ErrOrStderr(), "exported %d records of log %x\n", records, l.ID())

			return lostRecords(gaps)
		},
	}
	sel.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "write a JSON object per line")

	return cmd
}

// export writes the selected records to w and returns how many records and gaps there were.
func (s *selection) export(cmd *cobra.Command, l *eventlog.Log, w *logstream.Writer) (records uint64, gaps int,
	err error) {
	id := l.ID()
	first, last := max(s.from, l.First()), l.Durable()
	if s.to != 0 {
		last = s.to
	}

	if first > last+1 {
		return 0, 0, fmt.Errorf("--from is %d, the last record is %d", first, last)
	}
	if err := w.Begin(&logv1.ExportBegin{LogId: id[:], First: first, Last: last, Kinds: s.sortedKinds()}); err != nil {
		return 0, 0, err
	}

	err = s.each(cmd.Context(), l, func(e eventlog.Entry) error {
		return w.Record(&logv1.ExportRecord{Index: e.Index, Kind: uint32(e.Kind), Data: e.Data})
	}, func(g eventlog.CorruptError) error {
		gaps++
		from, to := max(g.Index, first), min(g.Index+g.Lost, last+1) // only the selected part of it
		return w.Gap(&logv1.ExportGap{First: from, Count: max(to, from) - from, Reason: g.Reason})
	})
	if err != nil {
		return 0, gaps, err
	}

	records, err = w.End()
	return records, gaps, err
}

// partialSuffix ends the name of a file that is not complete.
const partialSuffix = ".partial"

// writeFile makes a file that gets its name once it is complete and durable. It does not replace an
// existing file. Only one process at a time makes it: for others, the error is exit.ErrHomeInUse. A
// second signal, which ends the process at once, leaves no part of it.
func writeFile(ctx context.Context, name string, write func(io.Writer) error) (err error) {
	if err := absent(name); err != nil {
		return err
	}
	f, err := flock.TryLockPassing(name + partialSuffix)
	if errors.Is(err, flock.ErrLocked) {
		return exit.InUse("another process is writing %s", name)
	}
	if err != nil {
		return err
	}
	defer atForcedEnd(ctx, func() { _ = os.Remove(f.Name()) })()
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
		f.Close() // after the file has its name or is gone: until then it is locked
	}()

	// The process that had the lock before may have made the file, or was killed in the middle.
	if err := errors.Join(absent(name), f.Truncate(0)); err != nil {
		return err
	}
	if err := errors.Join(write(f), f.Sync()); err != nil {
		return err
	}
	return durable.OS.Rename(f.Name(), name)
}

// absent returns an error if there is something at the path name.
func absent(name string) error {
	_, err := os.Lstat(name)
	if err == nil {
		return fmt.Errorf("%s is there already, and is not overwritten", name)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
