package command

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/exit"
)

// recordJSON is a line of "log dump" for a record.
type recordJSON struct {
	Index  uint64          `json:"index"`
	Kind   string          `json:"kind"`
	Txs    []loggedTx      `json:"txs,omitempty"`
	Record json.RawMessage `json:"record"`
}

// gapJSON is a line of "log dump" for lost records.
type gapJSON struct {
	Index  uint64 `json:"index"`
	Kind   string `json:"kind"`
	Lost   uint64 `json:"lost"`
	Reason string `json:"reason"`
}

func (a *app) logDumpCommand() *cobra.Command {
	var sel selection
	cmd := &cobra.Command{
		Use:   "dump",
		Short: "Print records as JSON, one per line",
		Long: `Dump prints the records of the log as JSON, one per line. "record" is the whole record, as
proto/coppice/log/v1/log.proto defines it. "txs" lists its transactions in words. Programs should
use 'coppice log export', which keeps every byte.

A gap in a salvaged log is a line of the kind "gap"; then dump exits 5.`,
		Example: `  coppice log dump | tail -1
  coppice log dump --from 100 --to 200
  coppice log dump --kinds BlockCommitted | jq .record.height
  coppice log dump --kinds TxLaunched | jq -c '.txs[] | {id, ops}'`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := sel.resolve(cmd); err != nil {
				return err
			}
			l, err := a.openLog(eventlog.Options{})
			if err != nil {
				return err
			}
			defer l.Close()

			out := bufio.NewWriter(cmd.OutOrStdout())
			gaps := 0
			err = sel.each(cmd.Context(), l, func(e eventlog.Entry) error {
				line, err := recordLine(e)
				if err == nil {
					_, err = out.Write(line)
				}
				return err
			}, func(g eventlog.CorruptError) error {
				gaps++
				return encodeLine(out, gapJSON{g.Index, "gap", g.Lost, g.Reason})
			})

			return errors.Join(err, out.Flush(), lostRecords(gaps))
		},
	}
	sel.flags(cmd)
	cmd.Flags().Bool("json", true, "print JSON, which is the only format")
	return cmd
}

func encodeLine(out interface{ Write([]byte) (int, error) }, v any) error {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// recordLine returns the line for a record.
func recordLine(e eventlog.Entry) ([]byte, error) {
	m, err := chain.DecodeRecord(e)
	if err != nil {
		return nil, &exitError{exit.Damage, err}
	}
	record, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("record %d: %w", e.Index, err)
	}

	var line bytes.Buffer // encoding again removes protojson's varying blanks
	err = encodeLine(&line, recordJSON{Index: e.Index, Kind: chain.KindName(e.Kind), Txs: transactionsOf(m),
		Record: record})

	return line.Bytes(), err
}
