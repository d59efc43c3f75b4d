package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/node/exit"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

func (a *app) streamsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "streams",
		Short: "Show and change the streams of committed blocks to external systems",
		Long: `A stream delivers each committed block to an external system, its sink, which holds a cursor of its
own: nothing is lost and nothing comes twice. The files HOME/streams/NAME.toml define the streams.
See docs/streams.md.`,
		Example: `  coppice streams list
  coppice streams add ledger.toml && coppice streams wait ledger 100 --timeout 1m`,
	}

	cmd.AddCommand(a.streamsList(), a.streamsShow(), a.streamsAdd(), a.streamsPreview(), a.streamsPause(),
		a.streamsResume(), a.streamsRetry(), a.streamsExempt(), a.streamsWait(), a.streamsRewind(), a.streamsVerify(),
		a.streamsDrop(), a.streamsRebuild(), a.streamsEdit(), a.streamsExport(), a.streamsHistory(), a.streamsParked(),
		a.streamsReplay())
	return cmd
}

// callStreams calls f with a client of the running node, within --timeout.
func (a *app) callStreams(cmd *cobra.Command, f func(ctx context.Context, c *client.Client) error) error {
	ctx, cancel, c, err := a.dial(cmd.Context())
	if err != nil {
		return err
	}
	defer cancel()

	return a.streamsError(ctx, f(ctx, c))
}

// longCall calls f, which asks for work on a stream or on its sink: it takes as long as the stream
// is, or as long as streams.deadline lets a sink be silent, and then says why. --timeout bounds
// only how long the node may be down or busy before it.
func (a *app) longCall(cmd *cobra.Command, f func(ctx context.Context, c *client.Client) error) error {
	err := a.callStreams(cmd, func(ctx context.Context, c *client.Client) error {
		_, err := c.Streams(ctx, "")
		return err
	})
	if err != nil {
		return err
	}
	return a.streamsError(cmd.Context(), f(cmd.Context(), a.client()))
}

// streamsError returns the error to show for that of a call.
func (a *app) streamsError(ctx context.Context, err error) error {
	if connect.CodeOf(err) == connect.CodeInvalidArgument {
		wire := new(connect.Error)
		errors.As(err, &wire)
		return &exitError{exit.Config, errors.New(wire.Message())}
	}
	if own := new(exitError); errors.As(err, &own) {
		return err
	}

	return a.nodeError(ctx, err)
}

// stream returns what the node tells of a stream.
func (a *app) stream(cmd *cobra.Command, name string) (s *apiv1.Stream, err error) {
	err = a.callStreams(cmd, func(ctx context.Context, c *client.Client) error {
		list, err := c.Streams(ctx, name)
		if err == nil {
			s = list[0]
		}
		return err
	})
	return s, err
}

// act changes a stream and prints what was done.
func (a *app) act(cmd *cobra.Command, req *apiv1.ActOnStreamRequest, done string) error {
	req.By = operator()
	err := a.longCall(cmd, func(ctx context.Context, c *client.Client) error { return c.ActOnStream(ctx, req) })
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", req.Name, done)
	return err
}

// operator names the user, for the history of a stream.
func operator() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s (process %d)", u.Username, os.Getpid())
}

// readDefinition reads the file of a definition.
func readDefinition(name string) ([]byte, error) {
	text, err := readDocument(name, "a definition", streams.MaxDefinition)
	if err != nil {
		return nil, &exitError{exit.Config, err}
	}
	return text, nil
}

// printNotes prints what was done, after what the operator should know.
func printNotes(cmd *cobra.Command, name, done string, notes []string) error {
	for _, n := range notes {
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "note: %s\n", n); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", name, done)
	return err
}

// parsePosition reads HEIGHT or PERIOD/HEIGHT.
func parsePosition(cmd *cobra.Command, what, s string) (*apiv1.StreamPosition, error) {
	period, height, ok := strings.Cut(s, "/")
	if !ok {
		period, height = "0", s
	}
	p, perr := strconv.ParseUint(period, 10, 64)
	h, herr := strconv.ParseUint(height, 10, 64)
	if err := errors.Join(perr, herr); err != nil {
		return nil, usageError(cmd, "%s: %q is no height, want HEIGHT or EPOCH/HEIGHT", what, s)
	}
	return &apiv1.StreamPosition{Period: p, Height: h}, nil
}

// placeText returns a position for people.
func placeText(p *apiv1.StreamPosition) string {
	switch {
	case p == nil:
		return "-"
	case p.Period == 0:
		return strconv.FormatUint(p.Height, 10)
	}
	return fmt.Sprintf("%d/%d", p.Period, p.Height)
}
