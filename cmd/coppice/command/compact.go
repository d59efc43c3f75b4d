package command

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/node/offline"
)

// compactJSON is what "compact --json" prints.
type compactJSON struct {
	Sizes []sizeJSON `json:"sizes"`
}

func (a *app) compactCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "compact",
		Short: "Rewrite the databases of a stopped home without what was removed",
		Long: `Compact rewrites the tables of the state and each database of CometBFT, so that entries that were
removed or replaced no longer take room. A running node does this by itself, bit by bit. It changes
nothing that can be read. Meanwhile it needs as much free room as the largest part that it rewrites.
The log has nothing to compact: 'coppice prune' removes its old segments.

Compact checks the home first and refuses a damaged one. It may be interrupted at any time.`,
		Example: `  coppice compact
  coppice compact --json | jq .sizes`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			show := newProgress()
			sizes, err := offline.Compact(cmd.Context(), a.home,
				offline.CompactOptions{Progress: steps(show), Fatal: fatal(cmd)})
			show.end()
			if err != nil {
				return interruptedWhole(cmd.Context(), err)
			}

			out, list := cmd.OutOrStdout(), sizesOf(sizes)
			if asJSON {
				return printJSON(out, compactJSON{list})
			}

			var b strings.Builder
			for _, s := range list {
				fmt.Fprintf(&b, "%-16s %s before, %s after\n", s.Name, byteCount(s.Before), byteCount(s.After))
			}
			_, err = io.WriteString(out, b.String())
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
