package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/eventlog"
)

// logStatJSON is what "log stat --json" prints.
type logStatJSON struct {
	ID             string           `json:"id"`
	First          uint64           `json:"first"`
	Last           uint64           `json:"last"`
	Records        uint64           `json:"records"`
	Bytes          int64            `json:"bytes"` // of frames
	BytesPerRecord float64          `json:"bytes_per_record"`
	BytesOnDisk    int64            `json:"bytes_on_disk"`
	Clean          bool             `json:"clean"`
	TornBytes      int64            `json:"torn_bytes"`
	Segments       []logSegmentJSON `json:"segments"`
	Gaps           []logGapJSON     `json:"gaps,omitempty"`
}

type logSegmentJSON struct {
	File   string `json:"file"`
	First  uint64 `json:"first"`
	Last   uint64 `json:"last"`
	Bytes  int64  `json:"bytes"`
	Sealed bool   `json:"sealed"`
}

func (a *app) logStatCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "stat",
		Short: "Tell what the log holds",
		Long: `Stat tells which records and segments the log of a stopped home holds. It checks the segments that are no longer written by their
seals only, so it is quick; 'coppice log verify' reads every byte.`,
		Example: `  coppice log stat`,
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := a.openLog(eventlog.Options{QuickOpen: true})
			if err != nil {
				return err
			}
			defer l.Close()
			j := logStat(l)
			out := cmd.OutOrStdout()
			if asJSON {
				return printJSON(out, j)
			}
			end := "closed in order"
			if !j.Clean {
				end = fmt.Sprintf("killed, %d torn bytes", j.TornBytes)
			}
			fmt.Fprintf(out, "log %s: records %d to %d, %s in %d segments (%.0f bytes a record), %s\n",
				j.ID, j.First, j.Last, byteCount(j.Bytes), len(j.Segments), j.BytesPerRecord, end)
			for _, s := range j.Segments {
				fmt.Fprintf(out, "  %s  records %d to %d, %s\n", s.File, s.First, s.Last, byteCount(s.Bytes))
			}
			for _, g := range j.Gaps {
				fmt.Fprintf(out, "  gap  %s\n", g.text())
			}
			fmt.Fprintln(out, "  retainers are those of a node that runs: there is none")
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func logStat(l *eventlog.Log) logStatJSON {
	st, r := l.Stat(), l.Recovery()
	j := logStatJSON{
		ID: fmt.Sprintf("%x", st.ID), First: st.First, Last: st.Durable, Records: st.Durable + 1 - st.First, Bytes: st.Bytes,
		Clean: r.Clean, TornBytes: r.TornBytes, Gaps: gapsJSON(r.Gaps),
	}
	if j.Records > 0 {
		j.BytesPerRecord = float64(j.Bytes) / float64(j.Records)
	}
	for _, s := range st.Segments {
		j.Segments = append(j.Segments, logSegmentJSON{filepath.Base(s.File), s.First, s.Last, s.Bytes, r.Clean || s.Number != st.Segments[len(st.Segments)-1].Number})
		j.BytesOnDisk += fileSize(s.File)
	}
	return j
}
