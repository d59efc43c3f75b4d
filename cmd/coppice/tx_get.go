package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines"
)

func (a *app) txGetCommand() *cobra.Command {
	t := &txFlags{app: a}
	var wait time.Duration
	cmd := &cobra.Command{
		Use:     "get ID",
		Short:   "Tell what became of a transaction",
		Example: `  coppice tx get 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 --wait 5s`,
		Args:    words("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := engines.ParseTxID(args[0])
			if err != nil {
				return usageError(cmd, "%w", err)
			}
			ctx, cancel, c, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer cancel()

			o, err := c.Tx(ctx, id, wait)
			if err != nil && o.Err == nil && !errors.Is(err, client.ErrNotFound) {
				return a.nodeError(ctx, err) // nobody could be asked
			}

			return t.print(cmd, ctx, o, err, false)
		},
	}
	cmd.Flags().BoolVar(&t.asJSON, "json", false, "print JSON")
	cmd.Flags().DurationVar(&wait, "wait", 0, "how long to wait for a result")

	return cmd
}
