package command

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/client"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

func (a *app) streamsList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the streams: state, height, lag",
		Example: "  coppice streams list\n  coppice streams list --json",
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []*apiv1.Stream
			err := a.callStreams(cmd, func(ctx context.Context, c *client.Client) (err error) {
				list, err = c.Streams(ctx, "")
				return err
			})
			if err != nil {
				return err
			}
			if asJSON {
				return printProto(cmd, &apiv1.ListStreamsResponse{Streams: list})
			}

			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tKIND\tSTATE\tHEIGHT\tBEHIND\tHOLDS\tCAUSE")
			for _, s := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", s.Name, s.Kind, s.State, placeText(s.Stands),
					s.LagHeights, byteCount(s.HeldBytes), clipMiddle(s.LastCause.GetText(), 100))
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// clipMiddle returns a text of at most so many characters. It takes them out of the middle: the end
// of a chain of errors is its cause.
func clipMiddle(text string, most int) string {
	r := []rune(text)
	if len(r) <= most {
		return text
	}
	head := most / 3
	return string(r[:head]) + " … " + string(r[len(r)-(most-head-3):])
}

// printProto prints a message of the API as JSON.
func printProto(cmd *cobra.Command, m proto.Message) error {
	b, err := protojson.MarshalOptions{Multiline: true, UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", b)
	return err
}
