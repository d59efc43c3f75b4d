package command

import (
	"fmt"

	"github.com/spf13/cobra"
)

// offeredJSON is what "snapshot offer --json" prints.
type offeredJSON struct {
	Height uint64 `json:"height"`
	Keys   uint64 `json:"keys"`
	Bytes  uint64 `json:"bytes"`
	Chunks uint32 `json:"chunks"`
}

func (a *app) snapshotOfferCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "offer",
		Short: "Make a running node offer a snapshot to nodes that join by state sync",
		Long: `Offer makes a running CometBFT node take a snapshot of its state now and offer it to its peers. A
node by itself does so at the heights that state_sync.every_heights divides, which may be hours
ahead. A node that joins takes the whole snapshot from this node, which must be one of its peers.
Offer returns when the snapshot is complete. It needs the admin token.`,
		Example: `  coppice snapshot offer
  coppice snapshot offer --json --timeout 10m | jq .height`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel, c, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer cancel()

			s, err := c.OfferSnapshot(ctx)
			if err != nil {
				return a.nodeError(ctx, err)
			}

			if asJSON {
				return printJSON(cmd.OutOrStdout(), offeredJSON{s.Height, s.Keys, s.Bytes, s.Chunks})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(),
				"peers are offered the state at height %d: %d keys, %s in %d chunks\n", s.Height, s.Keys,
				byteCount(int64(s.Bytes)), s.Chunks)

			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
