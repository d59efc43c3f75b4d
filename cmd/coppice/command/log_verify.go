package command

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/home"
)

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

func (a *app) logVerifyCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Read the whole log and check every byte",
		Long: `Verify checks every frame, record, checksum and seal of the log, and that no segment is missing. It
changes nothing. Damage exits 5, and so does a gap in a salvaged log.

An incomplete end, from a process that was killed while it wrote, is not damage. It is reported as
torn bytes, and the next start cuts it off.`,
		Example: `  coppice log verify && echo whole`,
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			events, end := logProgress("checked")
			rep, err := eventlog.Verify(home.LogDir(a.home), eventlog.Options{Events: events})
			end()
			err = a.logError(err)
			if err != nil && !errors.Is(err, eventlog.ErrCorrupt) {
				return err
			}

			j := logVerifyJSON{
				OK: err == nil, First: rep.FirstIndex, Last: rep.LastIndex, Records: rep.Records, Frames: rep.Frames,
				Segments: rep.Segments,
				Bytes:    rep.Bytes, TornBytes: rep.TornBytes, Seconds: rep.Duration.Seconds(),
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

			_, err = fmt.Fprintf(out, "log is whole: %s in %d segments, %s, %d bytes torn, %v\n",
				recordRange(j.First, j.Last), j.Segments, byteCount(j.Bytes), j.TornBytes, rep.Duration.Round(time.Millisecond))

			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
