package command

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/storage/portable"
	"github.com/coppice-go/coppice/node/offline"
)

// portableJSON is what "snapshot export --json" and "snapshot import --offer --json" print, and an
// element of what "snapshot list --peers --json" prints.
type portableJSON struct {
	ID      string     `json:"id"` // period-height
	ChainID string     `json:"chain_id"`
	Period  uint64     `json:"period"`
	Height  uint64     `json:"height"`
	AppHash string     `json:"app_hash"`
	Keys    uint64     `json:"keys"`
	Bytes   uint64     `json:"bytes"`
	Chunks  int        `json:"chunks"`
	Hash    string     `json:"hash"` // the same on every node that has the snapshot
	Clock   *time.Time `json:"clock,omitempty"`
	File    string     `json:"file,omitempty"`
}

func portableOf(m portable.Metadata, file string) portableJSON {
	clock := m.Clock.UTC()
	return portableJSON{offline.PeerSnapshotID(m), m.ChainID, m.Period, m.Height, fmt.Sprintf("%x", m.AppHash), m.Keys,
		m.Bytes, len(m.Chunks), fmt.Sprintf("%x", m.Hash()), &clock, file}
}

func (a *app) snapshotExportCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "export [ID] FILE",
		Short: "Write a snapshot to one file that other nodes of the chain can import",
		Long: `Export writes a snapshot of a home to one file: the keys and values of the state at its height, and
the remembered ids of transactions, each part with its hash. ID is a snapshot of 'coppice snapshot
list', by default the newest, or one of 'coppice snapshot list --peers'. The snapshot is verified
first, and the file gets its name when it is complete. The home may be running.

'coppice snapshot import' makes the file a snapshot of the same home again, or offers it to nodes
that join. 'coppice init --from FILE' makes a new home that begins with it.`,
		Example: `  coppice snapshot create && coppice snapshot export state.snapshot
  coppice snapshot export 0-1200-4811 state.snapshot
  coppice snapshot export 0-5000 state.snapshot`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return fmt.Errorf("%d arguments, want FILE, or ID and FILE", len(args))
			}
			return nil
		},
		ValidArgsFunction: a.completeSnapshot,
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.address != "" {
				return usageError(cmd, "--address does not go with snapshot export, which reads the files of --home")
			}

			file, id := args[len(args)-1], first(args[:len(args)-1])
			show := newProgress()
			defer show.end()

			var m portable.Metadata
			err := writeFile(cmd.Context(), file, func(w io.Writer) (err error) {
				m, err = offline.ExportSnapshot(cmd.Context(), a.home, id, w, offline.SnapshotOptions{
					Program: program(), Progress: step(show, "verify"),
				})
				return err
			})
			show.clear()
			if err != nil {
				return err
			}

			if asJSON {
				return printJSON(cmd.OutOrStdout(), portableOf(m, file))
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "exported %s at height %d, app hash %x: %d keys, %s in %s\n",
				m.ChainID, m.Height, m.AppHash, m.Keys, byteCount(int64(m.Bytes)), file)

			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
