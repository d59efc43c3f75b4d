package command

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

func (a *app) streamsShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show NAME",
		Short:   "Show a stream: state, cursor, lag, what it holds, causes, history",
		Example: "  coppice streams show ledger",
		Args:    words("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.stream(cmd, args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return printProto(cmd, s)
			}
			return showStream(cmd, s)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func showStream(cmd *cobra.Command, s *apiv1.Stream) error {
	text := fmt.Sprintf("name:       %s\nkind:       %s, acknowledges %s\nstate:      %s\n"+
		"sink:       height %s, epoch %d\n"+
		"delivered:  up to height %s, %d heights and %s behind\n"+
		"holds:      the log from record %d, %s for it alone\n",
		s.Name, s.Kind, s.Ack, s.State, placeText(s.At), s.Epoch, placeText(s.Stands), s.LagHeights,
		byteCount(s.LagBytes), s.Floor, byteCount(s.HeldBytes))
	if s.FreeBytes >= 0 {
		text += fmt.Sprintf("cap:        %s left\n", byteCount(s.FreeBytes))
	}
	if s.BootstrapRatio < 1 {
		text += fmt.Sprintf("bootstrap:  %.0f %%\n", 100*s.BootstrapRatio)
	}
	if s.Parked > 0 {
		text += fmt.Sprintf("parked:     %d events\n", s.Parked)
	}
	if s.ExemptUntil != nil {
		text += fmt.Sprintf("exempt:     until %s\n", s.ExemptUntil.AsTime().Format(time.RFC3339))
	}
	for _, c := range []struct {
		name  string
		cause *apiv1.StreamCause
	}{{"first", s.FirstCause}, {"last", s.LastCause}} {
		if c.cause != nil {
			text += fmt.Sprintf("%-11s %s (%s): %s\n", c.name+":", c.cause.Time.AsTime().Format(time.RFC3339),
				c.cause.Class, c.cause.Text)
		}
	}
	for _, h := range s.History {
		text += fmt.Sprintf("history:    %s %s, by %s, from %s\n", h.Time.AsTime().Format(time.RFC3339), h.What, h.By,
			h.From)
	}

	_, err := fmt.Fprint(cmd.OutOrStdout(), text)
	return err
}
