package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node"
)

func (a *app) logCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Look into, check, copy and save the event log of a stopped home",
		Long: `Log works on the files of a home's event log. Dump, stat, verify, export and salvage want a home whose node has stopped ('coppice events'
shows the log of a node that runs); import wants a new home, in which no node was started.`,
	}

	cmd.AddCommand(a.logDumpCommand(), a.logStatCommand(), a.logVerifyCommand(), a.logExportCommand(),
		a.logImportCommand(), a.logSalvageCommand())
	return cmd
}

// openLog opens the home's log to read it.
func (a *app) openLog(o eventlog.Options) (*eventlog.Log, error) {
	l, err := eventlog.OpenReadOnly(node.LogDir(a.home), o)
	return l, a.logError(err)
}

// logError adds to an error of the home's log what can be done about it.
func (a *app) logError(err error) error {
	switch {
	case errors.Is(err, eventlog.ErrLocked):
		return fmt.Errorf("%w: a node runs in home %s; the log is read when it has stopped ('coppice events' shows "+
			"that of a node that runs)", err, a.home)

	case errors.Is(err, fs.ErrNotExist):
		if gone := node.StartedWithoutLog(a.home); gone != nil {
			return gone
		}
		return fmt.Errorf("there is no log in home %s: no node was started in it (%w)", a.home, err)

	case errors.Is(err, eventlog.ErrCorrupt):
		return fmt.Errorf("%w\n'coppice log salvage %s DEST' copies what is whole to a new log", err, a.home)
	}
	return err
}

// logProgress shows what a check of the log tells of its progress, for as long as there is a
// terminal.
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

// byteCount is a number of bytes for people.
func byteCount(n int64) string {
	const unit = 1 << 10
	if n < unit {
		return fmt.Sprintf("%d bytes", n)
	}
	f, names := float64(n)/unit, "KMGTP"
	for f >= unit && len(names) > 1 {
		f, names = f/unit, names[1:]
	}

	return fmt.Sprintf("%.1f %ciB", f, names[0])
}

// selection is which records a command is about.
type selection struct {
	from, to uint64
	names    []string
	kinds    []eventlog.Kind // nil: all
}

func (s *selection) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Uint64Var(&s.from, "from", 0, "first index; 0 is the first that is kept")
	f.Uint64Var(&s.to, "to", 0, "last index; 0 is the end")
	f.StringSliceVar(&s.names, "kinds", nil, "records of these kinds only: "+strings.Join(chain.KindNames(), ", "))
	f.StringSliceVar(&s.names, "kind", nil, "the same")
	if err := f.MarkHidden("kind"); err != nil {
		panic(err)
	}
}

// resolve checks what the flags say.
func (s *selection) resolve(cmd *cobra.Command) error {
	if s.to != 0 && s.to < s.from {
		return usageError(cmd, "--to is %d, before --from, %d", s.to, s.from)
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

// lostRecords says that a log has gaps.
func lostRecords(gaps int) error {
	if gaps == 0 {
		return nil
	}
	return &exitError{node.ExitDamage,
		fmt.Errorf("%d gaps: records are missing there that were lost before this log was made", gaps)}
}

// each calls record for the selected entries of the log, and gap for its gaps among them, in order.
// Data is valid until the next.
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

// logDirOf is the directory of a log that an argument names: its own, or its home's.
func logDirOf(arg string) string {
	if in := node.LogDir(arg); holdsLog(in) {
		return in
	}
	return filepath.Clean(arg)
}

func holdsLog(dir string) bool {
	for _, pattern := range []string{"*.seg", "EXTENT"} {
		if names, err := filepath.Glob(filepath.Join(dir, pattern)); err == nil && len(names) > 0 {
			return true
		}
	}
	return false
}

// sortedKinds is the kinds of a selection as numbers.
func (s *selection) sortedKinds() (kinds []uint32) {
	for _, k := range s.kinds {
		kinds = append(kinds, uint32(k))
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}
