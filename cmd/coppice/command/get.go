package command

import (
	"fmt"

	"github.com/spf13/cobra"
)

// getJSON is what "get --json" prints.
type getJSON struct {
	Key   text  `json:"key"`
	Found bool  `json:"found"`
	Value *text `json:"value,omitempty"`
}

func (a *app) getCommand() *cobra.Command {
	var height uint64
	var consistent, asJSON bool
	cmd := &cobra.Command{
		Use:   "get KEY",
		Short: "Print the value of a key",
		Long: `Get prints the value of a key in the committed state of this node, and a newline. It exits 1 if the
key does not exist.

With --height it prints the value after the block at that height. With --consistent the read is
ordered among the transactions: it sees every transaction that had a result before.`,
		Example: `  coppice get greeting
  coppice get greeting --height 12
  coppice get balance --consistent`,
		Args: words("KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			key := []byte(args[0])
			if consistent && cmd.Flags().Changed("height") {
				return usageError(cmd, "--consistent reads the latest height; it does not go with --height")
			}
			ctx, cancel, c, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer cancel()

			var value []byte
			var found bool

			if consistent {
				value, found, err = c.GetConsistent(ctx, key)
			} else {
				value, found, err = c.GetAt(ctx, key, height)
			}
			if err != nil {
				return a.nodeError(ctx, err)
			}

			if asJSON {
				out := getJSON{Key: textOf(key), Found: found}
				if found {
					v := textOf(value)
					out.Value = &v
				}
				if err := printJSON(cmd.OutOrStdout(), out); err != nil {
					return err
				}
			}

			if !found {
				return fmt.Errorf("key %q is not there", args[0])
			}
			if !asJSON {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", value)
			}

			return err
		},
	}
	f := cmd.Flags()
	f.Uint64Var(&height, "height", 0, "height to read at; 0 is the latest")
	f.BoolVar(&consistent, "consistent", false, "order the read after every transaction that had a result before")
	f.BoolVar(&asJSON, "json", false, "print JSON")

	return cmd
}
