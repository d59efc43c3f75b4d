package command

import (
	"encoding/base64"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/consensus/comet"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
)

func (a *app) peersList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the connected peers",
		Long: `List prints the connected peers: their ids, names and addresses, the height at which each works, and
the validator key that it has, if it has said so.`,
		Example: "  coppice peers list\n  coppice peers list --json",
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.wantComet(); err != nil {
				return err
			}
			ctx, cancel, _, err := a.dial(cmd.Context()) // fails if no node runs
			if err != nil {
				return err
			}
			defer cancel()
			if why := a.notRunning(); why != nil {
				return why
			}

			peers, err := comet.Peers(ctx, comethome.Dir(a.home))
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), peers)
			}

			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NODE ID\tADDRESS\tHEIGHT\tVALIDATOR KEY\tNAME")
			for _, p := range peers {
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", p.NodeID, p.Address, p.Height,
					base64.StdEncoding.EncodeToString(p.PubKey), p.Moniker)
			}

			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
