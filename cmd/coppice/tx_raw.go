package main

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
		Long: `Raw reads bytes in hexadecimal, blanks and line ends aside, and submits them as they are: the canonical bytes of a
transaction, such as --dry-run prints. The same bytes are the same transaction: they have one effect however often they are
submitted, and the same answer. With --backend they are the body of a new transaction for that backend.`,
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
	cmd.Flags().StringVar(&backend, "backend", "", "the bytes are a body for this backend")

	return cmd
}
