package command

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

func (a *app) streamsHistory() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "history NAME",
		Short:   "Print the changes of a stream: when, what, who, from what",
		Example: "  coppice streams history ledger",
		Args:    words("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.stream(cmd, args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return printProto(cmd, &apiv1.Stream{Name: s.Name, History: s.History})
			}

			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "TIME\tWHAT\tWHO\tFROM")
			for _, h := range s.History {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", h.Time.AsTime().Format(time.RFC3339), h.What, h.By, h.From)
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
