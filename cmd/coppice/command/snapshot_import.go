package command

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/storage/portable"
	"github.com/coppice-go/coppice/node/offline"
)

// importedJSON is what "snapshot import --json" prints.
type importedJSON struct {
	snapshotJSON
	Fresh bool `json:"fresh"` // false: the home had the snapshot already
}

func (a *app) snapshotImportCommand() *cobra.Command {
	var asJSON, offer bool
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Make a snapshot of a file that 'snapshot export' has written",
		Long: `Import makes the file a snapshot of a stopped home, which 'coppice snapshot restore ID' then puts in
the place of the state. The file must be of this home: its log must lead to the same state, and must
have the records after it.

With --offer, import makes the file a snapshot for peers instead: a node with CometBFT then offers
it to nodes that join by state sync. The file may come from any node of the chain. The home may be
running; its node then offers the snapshot at once, which needs the admin token.

Before anything gets its name, every byte of the file is checked, the state in it is made, and its
app hash is computed again. A damaged file exits 5. A file of another chain, of another home's log,
or of a newer format exits 3.`,
		Example: `  coppice snapshot import state.snapshot && coppice snapshot restore 0-1200-4811
  coppice snapshot import --offer state.snapshot`,
		Args: words("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.address != "" {
				return usageError(cmd, "--address does not go with snapshot import, which writes in --home")
			}

			show := newProgress()
			defer show.end()

			o := offline.SnapshotOptions{Program: program(), Progress: step(show, "verify"), Fatal: fatal(cmd)}
			if offer {
				return a.offerFile(cmd, args[0], o, show, asJSON)
			}

			m, fresh, err := offline.ImportSnapshot(cmd.Context(), a.home, args[0], o)
			show.clear()
			if err != nil {
				return err
			}

			if asJSON {
				return printJSON(cmd.OutOrStdout(), importedJSON{snapshotFrom(m), fresh})
			}
			what := "imported"
			if !fresh {
				what = "already there"
			}

			return printSnapshot(cmd, false, what, m)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&offer, "offer", false, "offer the snapshot to nodes that join by state sync")

	return cmd
}

// offerFile makes a file a snapshot for peers.
func (a *app) offerFile(cmd *cobra.Command, file string, o offline.SnapshotOptions, show *progressBar,
	asJSON bool) error {
	ctx, when := cmd.Context(), "from the next start on"
	m, err := offline.OfferSnapshot(ctx, a.home, file, o, func(staged string) error {
		when = "now"
		_, err := a.client().AdoptSnapshot(ctx, staged)
		return a.nodeError(ctx, err)
	})
	show.clear()
	if err != nil {
		return err
	}

	if asJSON {
		return printJSON(cmd.OutOrStdout(), portableOf(m, file))
	}
	return printOffered(cmd, m, when)
}

func printOffered(cmd *cobra.Command, m portable.Metadata, when string) error {
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "peers are offered the state at height %d %s: %d keys, %s in %d chunks, "+
		"app hash %x\n", m.Height, when, m.Keys, byteCount(int64(m.Bytes)), len(m.Chunks), m.AppHash)
	return err
}
