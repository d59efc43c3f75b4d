package command

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/node/config"
)

// checkedJSON is what "config check --json" prints for a valid file.
type checkedJSON struct {
	File  string `json:"file"`
	Valid bool   `json:"valid"`
}

func configCheckCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Check a configuration file",
		Long: `Check reads a configuration file and reports every problem in it, each with its line and column. The
file need not be in a home. An invalid one exits 3.`,
		Example:     `  coppice config check coppice.toml`,
		Args:        words("FILE"),
		Annotations: map[string]string{homeUse: homeUnused},
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := config.CheckFile(args[0]); err != nil {
				return err
			}

			if asJSON {
				return printJSON(cmd.OutOrStdout(), checkedJSON{args[0], true})
			}

			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is valid\n", args[0])
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
