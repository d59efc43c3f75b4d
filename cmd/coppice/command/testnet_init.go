package command

import (
	"fmt"

	"github.com/spf13/cobra"
)

// madeNetJSON is what "testnet init --json" prints.
type madeNetJSON struct {
	Dir     string   `json:"dir"`
	ChainID string   `json:"chain_id"`
	Homes   []string `json:"homes"`
}

func (a *app) testnetInit(dir *string) *cobra.Command {
	var o testnetOptions
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "init",
		Short:   "Make the homes of a testnet",
		Example: "  coppice testnet init -n 4 --dir /tmp/net",
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := o.make(cmd, a.program, a.testnetDir(*dir))
			if err != nil {
				return err
			}

			if asJSON {
				j := madeNetJSON{Dir: n.Dir, ChainID: n.ChainID}
				for i := range n.Nodes {
					j.Homes = append(j.Homes, n.Home(i))
				}
				return printJSON(cmd.OutOrStdout(), j)
			}

			_, err = fmt.Fprintf(cmd.OutOrStdout(), "made %d homes of chain %s in %s\n", n.Nodes, n.ChainID, n.Dir)
			return err
		},
	}
	o.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")

	return cmd
}
