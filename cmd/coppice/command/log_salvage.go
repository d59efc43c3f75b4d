package command

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
)

// logSalvageJSON is what "log salvage --json" prints.
type logSalvageJSON struct {
	Whole    bool         `json:"whole"`
	Source   string       `json:"source"`
	ID       string       `json:"id"`
	First    uint64       `json:"first"`
	Last     uint64       `json:"last"`
	Records  uint64       `json:"records"`
	Missing  []logGapJSON `json:"missing,omitempty"`
	Front    string       `json:"front,omitempty"`
	Torn     int64        `json:"torn_bytes"`
	Unusable []logFile    `json:"unusable,omitempty"`
}

type logFile struct {
	File   string `json:"file"`
	Reason string `json:"reason"`
}

func (a *app) logSalvageCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "salvage SRC DEST",
		Short: "Copy every provable record of a damaged log to a new log",
		Long: `Salvage reads the log in SRC, which is a home or the directory of a log, and copies each record that
its checksum proves to a new log in DEST, with the same index. It does not change SRC.

Salvage prints what is missing: which records, in which file, at which offset, and why. Missing
records are gaps in the new log: 'coppice log verify' reports them, and reading across one is an
error. If anything is missing, salvage exits 5.`,
		Example: `  coppice log salvage ~/.coppice /tmp/salvaged
  coppice log salvage --json ~/.coppice /tmp/salvaged | jq .missing`,
		Args: words("SRC", "DEST"),
		RunE: func(cmd *cobra.Command, args []string) error {
			events, end := logProgress("read")
			s, err := eventlog.Salvage(cmd.Context(), logDirOf(args[0]), args[1], eventlog.Options{Events: events})
			end()
			if errors.Is(err, eventlog.ErrLocked) {
				return fmt.Errorf("%w: a node runs there; stop it before you salvage its log", err)
			}
			if err != nil {
				return err
			}

			j := logSalvageJSON{
				Whole: s.Whole(), Source: fmt.Sprintf("%x", s.Source), ID: fmt.Sprintf("%x", s.ID),
				First: s.First, Last: s.Last, Records: s.Records, Missing: gapsJSON(s.Gaps), Front: s.Front,
				Torn: s.Torn,
			}

			for _, p := range s.Passed {
				j.Unusable = append(j.Unusable, logFile{p.File, p.Reason})
			}

			out := cmd.OutOrStdout()

			if asJSON {
				err = printJSON(out, j)
			} else {
				err = j.print(out, args[1])
			}

			if err == nil && !s.Whole() {
				err = &exitError{exit.Damage,
					fmt.Errorf("records are missing from the salvaged log in %s; it has %d gaps", args[1], len(s.Gaps))}
			}

			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (j logSalvageJSON) print(out io.Writer, dest string) error {
	fmt.Fprintf(out, "salvaged %d records of log %s, %s, to log %s in %s\n", j.Records, j.Source,
		recordRange(j.First, j.Last), j.ID, dest)

	if j.Torn > 0 {
		fmt.Fprintf(out, "torn     %d bytes at the end, of a write that was never acknowledged\n", j.Torn)
	}
	if j.Front != "" {
		fmt.Fprintf(out, "missing  perhaps records before %d: %s\n", j.First, j.Front)
	}

	for _, g := range j.Missing {
		fmt.Fprintf(out, "missing  %s\n", g.text())
	}

	for _, f := range j.Unusable {
		fmt.Fprintf(out, "unusable %s: %s\n", f.File, f.Reason)
	}

	if j.Whole {
		_, err := fmt.Fprintln(out, "nothing is missing")
		return err
	}

	return nil
}

// logDirOf returns the directory of the log that arg names: that of a home, or arg itself.
func logDirOf(arg string) string {
	if in := home.LogDir(arg); holdsLog(in) {
		return in
	}
	return filepath.Clean(arg)
}

// holdsLog reports whether a directory contains a log.
func holdsLog(dir string) bool {
	for _, pattern := range []string{"*.seg", "EXTENT"} {
		if names, err := filepath.Glob(filepath.Join(dir, pattern)); err == nil && len(names) > 0 {
			return true
		}
	}
	return false
}
