package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

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
	interval := time.Second
	cmd := &cobra.Command{
		Use:   "stat",
		Short: "Print what the log contains and, while the node runs, what retains it",
		Long: `Stat prints which records and segments the log of a stopped home contains. It is quick, because it
checks sealed segments only by their seals; 'coppice log verify' reads every byte.

While the node runs, stat asks the node: which retainers hold back truncation, the oldest record
that each needs, and how fast the log grows.`,
		Example: `  coppice log stat
  coppice log stat --interval 10s --json`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := a.openLog(eventlog.Options{QuickOpen: true})
			if errors.Is(err, eventlog.ErrLocked) {
				return a.logStatRunning(cmd, interval, asJSON)
			}
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

			fmt.Fprintf(out, "log %s: %s, %s in %d segments (%.0f bytes a record), %s\n",
				j.ID, recordRange(j.First, j.Last), byteCount(j.Bytes), len(j.Segments), j.BytesPerRecord, end)

			for _, s := range j.Segments {
				fmt.Fprintf(out, "  %s  %s, %s\n", s.File, recordRange(s.First, s.Last), byteCount(s.Bytes))
			}

			for _, g := range j.Gaps {
				fmt.Fprintf(out, "  gap  %s\n", g.text())
			}

			fmt.Fprintln(out, "  no node runs here, so there are no retainers")

			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().DurationVar(&interval, "interval", interval,
		"how long to measure the rates of a running node's log; 0 does not measure")

	return cmd
}

// logRunningJSON is what "log stat --json" prints while the node runs.
type logRunningJSON struct {
	ID               string            `json:"id"`
	First            uint64            `json:"first"`
	Last             uint64            `json:"last"`
	Bytes            int64             `json:"bytes"`
	Retainers        []logRetainerJSON `json:"retainers"`
	Retain           string            `json:"retain"`
	RecordsPerSecond float64           `json:"records_per_second"`
	BytesPerSecond   float64           `json:"bytes_per_second"` // growth less what was truncated meanwhile
}

type logRetainerJSON struct {
	Name  string `json:"name"`
	Floor uint64 `json:"floor"`
}

// logStatRunning prints what the running node says of its log.
func (a *app) logStatRunning(cmd *cobra.Command, interval time.Duration, asJSON bool) error {
	if interval < 0 {
		return usageError(cmd, "--interval is %v, want 0 or more", interval)
	}
	ctx, cancel, c, err := a.dial(cmd.Context())
	if err != nil {
		return err
	}
	defer cancel()

	r, err := c.Retention(ctx)
	if err != nil {
		return a.nodeError(ctx, err)
	}

	j := logRunningJSON{ID: fmt.Sprintf("%x", r.LogId), Retainers: []logRetainerJSON{}}

	if interval > 0 {
		start := time.Now()
		select {
		case <-time.After(interval):
		case <-ctx.Done():
			return context.Cause(ctx)
		}

		before := r
		if r, err = c.Retention(ctx); err != nil {
			return a.nodeError(ctx, err)
		}

		s := time.Since(start).Seconds()
		j.RecordsPerSecond, j.BytesPerSecond = float64(r.Last-before.Last)/s, float64(r.Bytes-before.Bytes)/s
	}

	j.First, j.Last, j.Bytes, j.Retain = r.First, r.Last, r.Bytes, r.Retain
	for _, h := range r.Retainers {
		j.Retainers = append(j.Retainers, logRetainerJSON{h.Name, h.Floor})
	}

	out := cmd.OutOrStdout()
	if asJSON {
		return printJSON(out, j)
	}

	fmt.Fprintf(out, "log %s: %s, %s, in use by a running node\n", j.ID, recordRange(j.First, j.Last),
		byteCount(j.Bytes))

	if interval > 0 {
		fmt.Fprintf(out, "  grows by %.0f records and %s a second\n", j.RecordsPerSecond,
			byteCount(int64(j.BytesPerSecond)))
	}

	fmt.Fprintf(out, "  retention %s\n", j.Retain)
	for _, h := range j.Retainers {
		fmt.Fprintf(out, "  retainer %s needs records from %d on\n", h.Name, h.Floor)
	}

	return nil
}

// logStat returns what a stopped log contains.
func logStat(l *eventlog.Log) logStatJSON {
	st, r := l.Stat(), l.Recovery()
	j := logStatJSON{
		ID: fmt.Sprintf("%x", st.ID), First: st.First, Last: st.Durable, Records: st.Durable + 1 - st.First,
		Bytes: st.Bytes,
		Clean: r.Clean, TornBytes: r.TornBytes, Gaps: gapsJSON(r.Gaps),
	}

	if j.Records > 0 {
		j.BytesPerRecord = float64(j.Bytes) / float64(j.Records)
	}

	for _, s := range st.Segments {
		j.Segments = append(j.Segments, logSegmentJSON{filepath.Base(s.File), s.First, s.Last, s.Bytes, r.Clean ||
			s.Number != st.Segments[len(st.Segments)-1].Number})
		j.BytesOnDisk += fileSize(s.File)
	}

	return j
}

// fileSize returns the size of a file in bytes, or 0 if it does not exist.
func fileSize(name string) int64 {
	info, err := os.Stat(name)
	if err != nil {
		return 0
	}
	return info.Size()
}
