package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
)

func (a *app) logCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Read, check, copy and salvage the event log of a stopped home",
		Long: `Log works on the files of a home's event log. Dump, stat, verify, export and salvage need a home
whose node has stopped; stat also works while it runs. Import needs a new home, in which no node was
started. 'coppice events' prints the log of a running node.`,
		Example: `  coppice log verify
  coppice log dump --kinds BlockCommitted
  coppice log salvage ~/.coppice /tmp/salvaged`,
	}

	cmd.AddCommand(a.logDumpCommand(), a.logStatCommand(), a.logVerifyCommand(), a.logExportCommand(),
		a.logImportCommand(), a.logSalvageCommand())
	return cmd
}

// openLog opens the home's log for reading.
func (a *app) openLog(o eventlog.Options) (*eventlog.Log, error) {
	l, err := eventlog.OpenReadOnly(home.LogDir(a.home), o)
	return l, a.logError(err)
}

// logError adds to an error of the home's log what the user can do about it.
func (a *app) logError(err error) error {
	switch {
	case errors.Is(err, eventlog.ErrLocked):
		return fmt.Errorf("%w: a node runs in home %s; stop it first, or use 'coppice events' to read the log of a "+
			"running node", err, a.home)

	case errors.Is(err, fs.ErrNotExist):
		if gone := home.StateWithoutLog(nil, a.home); gone != nil {
			return gone
		}
		return fmt.Errorf("there is no log in home %s: no node was started in it (%w)", a.home, err)

	case errors.Is(err, eventlog.ErrCorrupt):
		return fmt.Errorf("%w\n'coppice log salvage %s DEST' copies what is whole to a new log", err, a.home)
	}
	return err
}

// logProgress returns a function that takes the log's events and shows on the terminal how much of
// the log has been read, and a function that ends this display.
func logProgress(what string) (events func(eventlog.Event), end func()) {
	show := newProgress()
	return func(e eventlog.Event) {
		if p, ok := e.(eventlog.Progress); ok && p.Total > 0 {
			select {
			case <-show.tick:
				show.line(fmt.Sprintf("%s: %d%% of %s", what, 100*p.Done/p.Total, byteCount(p.Total)))
			default:
			}
		}
	}, show.end
}

// selection says which records of a log a command works on.
type selection struct {
	from, to uint64
	names    []string
	kinds    []eventlog.Kind // nil: all
}

func (s *selection) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Uint64Var(&s.from, "from", 0, "first index; 0 is the first record that is kept")
	f.Uint64Var(&s.to, "to", 0, "last index; 0 is the last record")
	f.StringSliceVar(&s.names, "kinds", nil, "only records of these kinds: "+strings.Join(chain.KindNames(), ", "))
	completeList(cmd, "kinds", chain.KindNames())
	f.StringSliceVar(&s.names, "kind", nil, "the same")
	if err := f.MarkHidden("kind"); err != nil {
		panic(err)
	}
}

// resolve checks the flags, and sets kinds from the names of --kinds.
func (s *selection) resolve(cmd *cobra.Command) error {
	if s.to != 0 && s.to < s.from {
		return usageError(cmd, "--to is %d, which is before --from, %d", s.to, s.from)
	}

	for _, name := range s.names {
		k, ok := chain.KindOf(name)
		if !ok {
			return usageError(cmd, "--kinds is %q, want one of %s", name, strings.Join(chain.KindNames(), ", "))
		}
		s.kinds = append(s.kinds, k)
	}

	return nil
}

// lostRecords returns the error for a log with gaps, or nil if there are none.
func lostRecords(gaps int) error {
	if gaps == 0 {
		return nil
	}
	return &exitError{exit.Damage,
		fmt.Errorf("the log has %d gaps: their records were lost before this log was made", gaps)}
}

// each calls record for the selected entries of the log and gap for the gaps among them, in order.
// The Data of an entry is valid until the next call.
func (s *selection) each(ctx context.Context, l *eventlog.Log, record func(eventlog.Entry) error,
	gap func(eventlog.CorruptError) error) error {
	for e, err := range chain.Records(l.Cursor, max(s.from, l.First()), chain.End) {
		lost := new(eventlog.CorruptError)
		isGap := errors.As(err, &lost) && lost.Gap

		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && !isGap:
			return err
		case s.to != 0 && e.Index > s.to:
			return nil
		case isGap:
			err = gap(*lost)
		case s.kinds == nil || slices.Contains(s.kinds, e.Kind):
			err = record(e)
		}

		if err != nil {
			return err
		}
	}

	return nil
}

type logGapJSON struct {
	First  uint64 `json:"first"`
	Last   uint64 `json:"last"` // First-1 if it is not known how many records are missing
	File   string `json:"file"`
	Offset int64  `json:"offset"`
	Reason string `json:"reason"`
}

func (g logGapJSON) text() string {
	if g.Last < g.First {
		return fmt.Sprintf("an unknown number of records from %d on (%s at offset %d): %s", g.First, g.File,
			g.Offset, g.Reason)
	}
	return fmt.Sprintf("records %d to %d, %d of them (%s at offset %d): %s", g.First, g.Last, g.Last-g.First+1, g.File,
		g.Offset, g.Reason)
}

func gapsJSON(gaps []eventlog.Gap) (list []logGapJSON) {
	for _, g := range gaps {
		list = append(list, logGapJSON{g.First, g.Last, g.File, g.Offset, g.Reason})
	}
	return list
}
