package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/cmd/coppice/internal/logstream"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

func (a *app) logExportCommand() *cobra.Command {
	var sel selection
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "export FILE|-",
		Short: "Write the log of a stopped home to a file that import and other programs read",
		Long: `Export writes records, each with its index, kind and bytes, and at last a digest of all of them: length-delimited protobuf messages, or
with --json one JSON object per line. proto/coppice/log/v1/export.proto defines both. The file gets its name when it is complete and
durable. 'coppice log import' makes a log of it, unless --kinds left records out.`,
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
				err = writeFile(args[0], write)
			}

			if err != nil {
				return err
			}

			fmt.Fprintf(cmd.ErrOrStderr(), "exported %d records of log %x\n", records, l.ID())

			return lostRecords(gaps)
		},
	}
	sel.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON lines")

	return cmd
}

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
		from, to := max(g.Index, first), min(g.Index+g.Lost, last+1) // what of it was asked for
		return w.Gap(&logv1.ExportGap{First: from, Count: max(to, from) - from, Reason: g.Reason})
	})

	if err != nil {
		return 0, gaps, err
	}

	records, err = w.End()
	return records, gaps, err
}

// writeFile makes a file that gets its name once it is whole and durable. A file of that name is
// not replaced.
func writeFile(name string, write func(io.Writer) error) (err error) {
	if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fmt.Errorf("%s is there already, and is not written over", name)
		}
		return err
	}

	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, filepath.Base(name)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close() // once more does no harm
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()

	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}

	return syncDirectory(dir)
}

func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (a *app) logImportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import FILE|-",
		Short: "Make the log of a new home from an export",
		Long: `Import makes a log of an export, in a home that has none. Records keep their indexes. The log gets an identity of its own: it goes on
by itself, and what it gets at an index from then on is not what the exported log got there. The export is checked to its end before the log is
there at all. The home's genesis.json must be of the chain that the export is of: it is a copy of that of the home that was exported.`,
		Example: `  coppice init --home new && cp old/genesis.json new/ && coppice log import backup.log --home new
  zstd -dc backup.log.zst | coppice log import -`,
		Args: words("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := os.Stat(a.home); err != nil {
				return fmt.Errorf("home %s: make one with 'coppice init' (%w)", a.home, err)
			}
			genesis, err := node.ReadGenesis(a.home)
			if err != nil {
				return err
			}

			if _, err := os.Stat(node.StateDir(a.home)); err == nil {
				return fmt.Errorf("home %s has a state already, which is of another log; import wants a new home",
					a.home)
			}

			in, name := cmd.InOrStdin(), "standard input"

			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in, name = f, args[0]
			}

			gaps, b, err := a.importLog(cmd, in, genesis)
			if errors.Is(err, logstream.ErrFormat) {
				return &exitError{node.ExitDamage, fmt.Errorf("%s: %w", name, err)}
			}
			if err != nil {
				return err
			}

			fmt.Fprintf(cmd.OutOrStdout(), "log %x: records up to %d\n", b.ID(), b.Next()-1)

			return lostRecords(gaps)
		},
	}
	return cmd
}

// importLog makes the home's log.
func (a *app) importLog(cmd *cobra.Command, in io.Reader, genesis chain.Genesis) (gaps int, b *eventlog.Builder,
	err error) {
	x, err := logstream.NewReader(in)
	if err != nil {
		return 0, nil, err
	}
	if x.Filtered() {
		return 0, nil, fmt.Errorf("the export has records of some kinds only; no log can be made of it")
	}

	if x.Begin.First > 1 {
		fmt.Fprintf(cmd.ErrOrStderr(), "coppice: the export begins at record %d: without a Base there no node runs "+
			"on it; the log is for reading\n", x.Begin.First)
	}

	b, err = eventlog.NewBuilder(node.LogDir(a.home),
		eventlog.Options{FirstIndex: x.Begin.First, MaxRecord: logstream.MaxRecord})

	if err != nil {
		return 0, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Abort())
		}
	}()

	compared := false

	for cmd.Context().Err() == nil {
		r, g, err := x.Next()
		if err == nil && r != nil && !compared && eventlog.Kind(r.Kind) == chain.KindChainStarted {
			if compared, err = true, a.sameChain(r, genesis); err != nil {
				return gaps, b, err
			}
		}

		switch {
		case err == io.EOF:
			return gaps, b, b.Finish()

		case err != nil:
			return gaps, b, err

		case g != nil:
			gaps++
			err = b.Lost(g.Count, g.Reason)

		default:
			err = b.Append(eventlog.Record{Kind: eventlog.Kind(r.Kind), Data: r.Data})
		}

		if err != nil {
			return gaps, b, err
		}
	}

	return gaps, b, context.Cause(cmd.Context())
}

// sameChain holds the first start of a chain in an export against the home's genesis: a node of
// another chain would refuse the log.
func (a *app) sameChain(r *logv1.ExportRecord, genesis chain.Genesis) error {
	m, err := chain.DecodeRecord(eventlog.Entry{Index: r.Index, Kind: eventlog.Kind(r.Kind), Data: r.Data})
	if err != nil {
		return fmt.Errorf("%w: %w", node.ErrDamage, err)
	}

	started, at := m.(*logv1.ChainStarted), genesis.GenesisTime
	switch {
	case started.ChainId != genesis.ChainID:
		return fmt.Errorf("%w: the export is of chain %s, the genesis.json of home %s of %s: copy that of the home "+
			"that was exported",
			node.ErrConfig, started.ChainId, a.home, genesis.ChainID)
	// CometBFT's genesis has a time of its own
	case len(started.InitChain) == 0 && started.GenesisTimeNs != at.UnixNano():
		return fmt.Errorf("%w: the export is of a chain %s that began at %v, the genesis.json of home %s of a chain "+
			"%s that begins at %v: copy that of the home that was exported",
			node.ErrConfig, started.ChainId, time.Unix(0, started.GenesisTimeNs).UTC(), a.home, genesis.ChainID, at)
	}

	return nil
}
