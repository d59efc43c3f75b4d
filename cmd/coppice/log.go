package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node"
)

// recordJSON is one line of "log dump".
type recordJSON struct {
	Index  uint64          `json:"index"`
	Kind   string          `json:"kind"`
	Record json.RawMessage `json:"record"`
}

// logStatJSON is what "log stat --json" prints.
type logStatJSON struct {
	ID       string           `json:"id"`
	First    uint64           `json:"first"`
	Last     uint64           `json:"last"`
	Bytes    int64            `json:"bytes"`
	Segments []logSegmentJSON `json:"segments"`
}

type logSegmentJSON struct {
	File   string `json:"file"`
	First  uint64 `json:"first"`
	Last   uint64 `json:"last"`
	Bytes  int64  `json:"bytes"`
	Sealed bool   `json:"sealed"`
}

// logVerifyJSON is what "log verify --json" prints.
type logVerifyJSON struct {
	OK        bool            `json:"ok"`
	First     uint64          `json:"first"`
	Last      uint64          `json:"last"`
	Records   uint64          `json:"records"`
	Frames    uint64          `json:"frames"`
	Segments  int             `json:"segments"`
	Bytes     int64           `json:"bytes"`
	TornBytes int64           `json:"torn_bytes"`
	Seconds   float64         `json:"seconds"`
	Damage    []logDamageJSON `json:"damage,omitempty"`
}

type logDamageJSON struct {
	File   string `json:"file"`
	Offset int64  `json:"offset"`
	Index  uint64 `json:"index,omitempty"`
	Reason string `json:"reason"`
}

func (a *app) logCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Look into the event log of a stopped home",
	}
	cmd.AddCommand(a.logDumpCommand(), a.logStatCommand(), a.logVerifyCommand())
	return cmd
}

func (a *app) logDumpCommand() *cobra.Command {
	var from, to uint64
	var kinds []string
	cmd := &cobra.Command{
		Use:   "dump",
		Short: "Print records as JSON, one per line",
		Example: `  coppice log dump | tail -1
  coppice log dump --from 100 --to 200
  coppice log dump --kind BlockCommitted | jq .record.height`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, k := range kinds {
				if !slices.Contains(recordKinds(), k) {
					return usageError(cmd, "--kind is %q, want one of %s", k, strings.Join(recordKinds(), ", "))
				}
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			err := a.dump(cmd.Context(), from, to, func(e eventlog.Entry) error {
				if len(kinds) > 0 && !slices.Contains(kinds, engines.KindName(e.Kind)) {
					return nil
				}
				line, err := recordLine(e)
				if err == nil {
					_, err = out.Write(line)
				}
				return err
			})
			return errors.Join(err, out.Flush())
		},
	}
	f := cmd.Flags()
	f.Uint64Var(&from, "from", 0, "first index; 0 is the first that is kept")
	f.Uint64Var(&to, "to", 0, "last index; 0 is the end")
	f.StringSliceVar(&kinds, "kind", nil, "records of these kinds only: "+strings.Join(recordKinds(), ", "))
	return cmd
}

// recordKinds are the names of all kinds of records.
func recordKinds() []string {
	var names []string
	for k := engines.KindChainStarted; k <= engines.KindBase; k++ {
		names = append(names, engines.KindName(k))
	}
	return names
}

// dump calls each for the entries from one index to another, as far as they are kept.
func (a *app) dump(ctx context.Context, from, to uint64, each func(eventlog.Entry) error) error {
	l, err := eventlog.OpenReadOnly(node.LogDir(a.home), eventlog.Options{})
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := l.Cursor(max(from, l.First()))
	if err != nil {
		return err
	}
	defer c.Close()
	for ctx.Err() == nil {
		e, ok, err := c.TryNext()
		if err != nil || !ok || to != 0 && e.Index > to {
			return err
		}
		if err := each(e); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

func recordLine(e eventlog.Entry) ([]byte, error) {
	m, err := engines.DecodeRecord(e)
	if err != nil {
		return nil, &exitError{node.ExitDamage, err}
	}
	record, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	err = enc.Encode(recordJSON{Index: e.Index, Kind: engines.KindName(e.Kind), Record: record}) // which evens out protojson's blanks
	return line.Bytes(), err
}

func (a *app) logStatCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "stat",
		Short:   "Tell what the log holds",
		Example: `  coppice log stat`,
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := eventlog.OpenReadOnly(node.LogDir(a.home), eventlog.Options{})
			if err != nil {
				return err
			}
			defer l.Close()
			st := l.Stat()
			j := logStatJSON{ID: fmt.Sprintf("%x", st.ID), First: st.First, Last: st.Durable, Bytes: st.Bytes}
			for _, s := range st.Segments {
				j.Segments = append(j.Segments, logSegmentJSON{filepath.Base(s.File), s.First, s.Last, s.Bytes, s.Sealed})
			}
			out := cmd.OutOrStdout()
			if asJSON {
				return printJSON(out, j)
			}
			fmt.Fprintf(out, "log %s: records %d to %d, %d bytes in %d segments\n", j.ID, j.First, j.Last, j.Bytes, len(j.Segments))
			for _, s := range j.Segments {
				sealed := "open"
				if s.Sealed {
					sealed = "sealed"
				}
				fmt.Fprintf(out, "  %s  records %d to %d, %d bytes, %s\n", s.File, s.First, s.Last, s.Bytes, sealed)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) logVerifyCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Read the whole log and check every byte; damage exits 5",
		Long: `Verify checks every frame, record, checksum and seal of the log, and changes nothing. An end that was being written when
the process was killed is no damage: it is told as torn bytes, and the next start cuts it off.`,
		Example: `  coppice log verify && echo whole`,
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			show := newProgress()
			rep, err := eventlog.Verify(node.LogDir(a.home), eventlog.Options{Events: func(e eventlog.Event) {
				if p, ok := e.(eventlog.Progress); ok && p.Total > 0 {
					select {
					case <-show.tick:
						show.line(fmt.Sprintf("%d%% of %d bytes", 100*p.Done/p.Total, p.Total))
					default:
					}
				}
			}})
			show.end()
			if err != nil && !errors.Is(err, eventlog.ErrCorrupt) {
				return err
			}
			j := logVerifyJSON{
				OK: err == nil, First: rep.FirstIndex, Last: rep.LastIndex, Records: rep.Records, Frames: rep.Frames, Segments: rep.Segments,
				Bytes: rep.Bytes, TornBytes: rep.TornBytes, Seconds: rep.Duration.Seconds(),
			}
			for _, d := range rep.Damage {
				j.Damage = append(j.Damage, logDamageJSON{d.File, d.Offset, d.Index, d.Reason})
			}
			out := cmd.OutOrStdout()
			if asJSON {
				return errors.Join(printJSON(out, j), err)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(out, "log is whole: records %d to %d in %d segments, %d bytes, %d torn, %v\n",
				j.First, j.Last, j.Segments, j.Bytes, j.TornBytes, rep.Duration.Round(time.Millisecond))
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
