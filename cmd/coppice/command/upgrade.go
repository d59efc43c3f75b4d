package command

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/node/offline"
)

// upgradeJSON is what "upgrade --json" prints.
type upgradeJSON struct {
	From  int      `json:"from"`
	To    int      `json:"to"`
	Steps []string `json:"steps"`
	Done  bool     `json:"done"`
}

func (a *app) upgradeCommand() *cobra.Command {
	var check, asJSON bool
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Bring a stopped home of an older version to this program's format",
		Long: `Upgrade changes the format of a home that an older version made. A program refuses homes of a newer
format than its own, so only a backup leads back. Make one first: run 'coppice backup' of the older
program on the running node, or copy the whole home of a stopped node. Upgrade may be killed at any
instant and run again.

With --check it changes nothing, and exits 1 if there is something to do.`,
		Example: `  coppice upgrade --check
  coppice upgrade`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			u, err := offline.Upgrade(a.home, check)
			if err != nil {
				return err
			}

			out := cmd.OutOrStdout()

			if asJSON {
				err = printJSON(out,
					upgradeJSON{u.From, u.To, append([]string{}, u.Steps...), !check || len(u.Steps) == 0})
			} else {
				for _, s := range u.Steps {
					fmt.Fprintln(out, s)
				}
				if !check || len(u.Steps) == 0 {
					_, err = fmt.Fprintf(out, "%s has format %d, which is this program's\n", a.home, u.To)
				}
			}

			if err == nil && check && len(u.Steps) > 0 {
				err = errors.New("the home needs an upgrade: make a backup, then run 'coppice upgrade'")
			}

			return err
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "print what there is to do, and change nothing")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
