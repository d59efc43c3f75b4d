package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/cmd/coppice/internal/logstream"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

func (a *app) logImportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import FILE|-",
		Short: "Make the log of a new home from an export",
		Long: `Import makes a log from an export, in a home that has none. Records keep their indexes. The log gets
an identity of its own, because the exported log may go on with other records at the same indexes.
The log appears only after the whole export was checked. The home's genesis.json must be that of the
exported chain: copy it from the exported home.`,
		Example: `  coppice init --home new && cp old/genesis.json new/ && coppice log import backup.log --home new
  zstd -dc backup.log.zst | coppice log import -`,
		Args: words("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := os.Stat(a.home); err != nil {
				return fmt.Errorf("home %s: make one with 'coppice init' (%w)", a.home, err)
			}
			genesis, err := home.ReadGenesis(a.home)
			if err != nil {
				return err
			}

			if _, err := os.Stat(home.StateDir(a.home)); err == nil {
				return fmt.Errorf("home %s has a state already, which belongs to another log; import needs a new home",
					a.home)
			}

			in, err := openInput(cmd, args[0])
			if err != nil {
				return err
			}
			defer in.Close()

			name := args[0]
			if name == "-" {
				name = "standard input"
			}

			gaps, b, err := a.importLog(cmd, in, genesis)
			if errors.Is(err, logstream.ErrFormat) {
				return &exitError{exit.Damage, fmt.Errorf("%s: %w", name, err)}
			}
			if err != nil {
				return err
			}

			fmt.Fprintf(cmd.OutOrStdout(), "log %x: %s\n", b.ID(), importedText(b.Next()-1))

			return lostRecords(gaps)
		},
	}
	return cmd
}

// importedText returns in words which records an import made. last is the index of the last one.
func importedText(last uint64) string {
	if last == 0 {
		return "no records"
	}
	return fmt.Sprintf("records up to %d", last)
}

// importLog makes the home's log from an export. It returns how many gaps the export has.
func (a *app) importLog(cmd *cobra.Command, in io.Reader, genesis chain.Genesis) (gaps int, b *eventlog.Builder,
	err error) {
	x, err := logstream.NewReader(in)
	if err != nil {
		return 0, nil, err
	}
	if x.Filtered() {
		return 0, nil, fmt.Errorf("the export has records of some kinds only; no log can be made from it")
	}

	if x.Begin.First > 1 {
		fmt.Fprintf(cmd.ErrOrStderr(), "coppice: the export begins at record %d: unless that is a Base, no node can "+
			"run on the log, and it is only for reading\n", x.Begin.First)
	}

	b, err = eventlog.NewBuilder(home.LogDir(a.home),
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

// sameChain compares a ChainStarted record of an export with the home's genesis. A node with
// another genesis would refuse the log.
func (a *app) sameChain(r *logv1.ExportRecord, genesis chain.Genesis) error {
	m, err := chain.DecodeRecord(eventlog.Entry{Index: r.Index, Kind: eventlog.Kind(r.Kind), Data: r.Data})
	if err != nil {
		return fmt.Errorf("%w: %w", exit.ErrDamage, err)
	}

	started, at := m.(*logv1.ChainStarted), genesis.GenesisTime
	switch {
	case chain.NameOf(started.ChainId, started.Period) != genesis.ChainID:
		return fmt.Errorf("%w: the export is of chain %s, the genesis.json of home %s of %s: copy that of the "+
			"exported home", exit.ErrConfig, started.ChainId, a.home, genesis.ChainID)

	// CometBFT's genesis has a time of its own, and so has each epoch after a reset.
	case len(started.InitChain) == 0 && started.Period == 0 && started.GenesisTimeNs != at.UnixNano():
		return fmt.Errorf("%w: the export is of a chain %s that began at %v, the genesis.json of home %s of a "+
			"chain %s that begins at %v: copy that of the exported home", exit.ErrConfig, started.ChainId,
			time.Unix(0, started.GenesisTimeNs).UTC(), a.home, genesis.ChainID, at)
	}

	return nil
}
