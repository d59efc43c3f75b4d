package command

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/backend/kv"
)

func (a *app) txOpsCommand() *cobra.Command {
	t := &txFlags{app: a}
	cmd := &cobra.Command{
		Use:   "ops FILE|-",
		Short: "Submit several operations as one transaction, all or none",
		Long: "Ops reads operations from a file, or from standard input for -, one per line:\n\n  " +
			strings.ReplaceAll(strings.TrimSpace(kv.Usage()), "\n", "\n  "),
		Example: `  printf 'require a exists\nadd a -5\nadd b 5\n' | coppice tx ops -
  coppice tx ops transfer.txt`,
		Args: words("FILE|-"),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := readInput(cmd, args[0])
			if err != nil {
				return err
			}
			ops, err := kv.ParseText(string(b))
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}

			return t.submitOps(cmd, ops...)
		},
	}
	t.registerNew(cmd)
	return cmd
}
