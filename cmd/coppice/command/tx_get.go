package command

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/chain"
)

func (a *app) txGetCommand() *cobra.Command {
	t := &txFlags{app: a}
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "get ID",
		Short: "Print the outcome of a transaction",
		Long: `Get prints the result of a transaction, or that it was accepted and has no result yet. With --wait
it waits for the result. It exits 1 if the transaction failed, has expired, or is not known.`,
		Example: `  coppice tx get 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 --wait 5s`,
		Args:    words("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := chain.ParseTxID(args[0])
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
				return a.nodeError(ctx, err) // no node was reached
			}

			if o.Result != nil {
				t.awaitSinks(ctx, c, o.Result.Version)
			} else if len(t.sinks) > 0 && err == nil {
				t.lacking = append(t.lacking, "the transaction has no result yet")
			}

			return t.print(cmd, ctx, o, err, false)
		},
	}
	cmd.Flags().BoolVar(&t.asJSON, "json", false, "print JSON")
	t.registerSinks(cmd)
	cmd.Flags().DurationVar(&wait, "wait", 0, "how long to wait for a result")

	return cmd
}
