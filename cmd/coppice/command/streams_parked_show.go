package command

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) parkedShow() *cobra.Command {
	return &cobra.Command{
		Use:     "show NAME NUMBER",
		Short:   "Print an event that a stream has put aside, as JSON",
		Example: "  coppice streams parked show ledger 1",
		Args:    words("NAME", "NUMBER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := parkedNumber(cmd, args[1])
			if err != nil {
				return err
			}
			list, err := a.parkedEvents(cmd, args[0])
			if err != nil {
				return err
			}
			if int(n) > len(list) {
				return fmt.Errorf("%s has %d parked events, there is no number %d", args[0], len(list), n)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", list[n-1].Event)
			return err
		},
	}
}
