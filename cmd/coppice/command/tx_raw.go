package command

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) txRawCommand() *cobra.Command {
	t := &txFlags{app: a}
	var backend string
	cmd := &cobra.Command{
		Use:   "raw FILE|-",
		Short: "Submit the bytes of a transaction, or a body for a backend",
		Long: `Raw reads hexadecimal digits, ignoring blanks and line ends, and submits the bytes as they are. They
are the canonical bytes of a transaction, as --dry-run prints them. The same bytes are the same
transaction: however often they are submitted, they have one effect and get the same answer. With
--backend, the bytes are the body of a new transaction for that backend.`,
		Example: `  coppice tx put greeting hello --dry-run > tx.hex
  coppice tx raw tx.hex && coppice tx raw tx.hex
  echo 6b3d76 | coppice tx raw --backend kvstore -`,
		Args: words("FILE|-"),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := readInput(cmd, args[0])
			if err != nil {
				return err
			}
			raw, err := hex.DecodeString(strings.Join(strings.Fields(string(b)), ""))
			if err != nil {
				return fmt.Errorf("%s: want hexadecimal digits: %w", args[0], err)
			}
			if backend != "" {
				return t.submitBody(cmd, backend, raw)
			}

			return t.submitBytes(cmd, raw)
		},
	}
	t.registerNew(cmd)
	cmd.Flags().StringVar(&backend, "backend", "", "take the bytes as a body for this backend")

	return cmd
}
