package command

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/cmd/coppice/internal/top"
)

// leastInterval bounds how often top asks a node.
const leastInterval = 100 * time.Millisecond

func (a *app) topCommand() *cobra.Command {
	var readOnly, mouse bool
	var interval time.Duration
	var view string
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Look at a running node in the terminal: tree, engines, events, chain, disk",
		Long: `Top shows a running node on the whole terminal, until q. The keys 1 to 7 choose a view: overview,
tree, one place of the tree, the engines by what they do, events, chain, disk. ? lists all keys.
The first line says in words whether the node is well. If the node dies, top says so, and goes on
when the node is back.

k kills what is selected, after it has shown what follows and the name was typed. It needs the admin
token, and is not there with --read-only. Looking waits for no engine, and costs a node little.

Without a terminal, top exits 2; 'coppice tree --watch' prints lines instead. See docs/top.md.`,
		Example: `  coppice top
  coppice top --view tree --read-only
  coppice top --address node1.example:7070 --interval 5s`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(top.Views, view) {
				return usageError(cmd, "--view is %q, want one of %s", view, strings.Join(top.Views, ", "))
			}
			if interval < leastInterval {
				return usageError(cmd, "--interval is %v, want at least %v", interval, leastInterval)
			}
			if !terminal(os.Stdin) || !terminal(os.Stdout) {
				return usageError(cmd, "top needs a terminal as its input and output; "+
					"'coppice tree --watch' prints lines")
			}
			if _, err := a.resolve(); err != nil {
				return a.nodeError(cmd.Context(), err)
			}

			c := a.client()
			defer c.CloseIdle()
			err := top.Run(cmd.Context(), top.Options{Client: c, Interval: interval, View: view, ReadOnly: readOnly,
				Token: a.readToken() != "", Mouse: mouse,
				Rounds: func(ctx context.Context) (string, error) { return roundsText(ctx, c) }}, os.Stdin, os.Stdout)
			if err != nil && errors.Is(err, errInterrupted) {
				return nil // this is how a view may end, too
			}

			return err
		},
	}
	f := cmd.Flags()
	f.BoolVar(&readOnly, "read-only", false, "offer no action, whatever the token allows")
	f.DurationVar(&interval, "interval", time.Second, "pause between two looks at the node")
	f.StringVar(&view, "view", top.Views[0], "the first view: "+strings.Join(top.Views, ", "))
	f.BoolVar(&mouse, "mouse", false, "the wheel scrolls and a click selects; the terminal then selects no text")
	offer(cmd, "view", top.Views...)

	return cmd
}

// roundsText returns the state of the node's service of rounds, as "rounds status" prints it.
func roundsText(ctx context.Context, c *client.Client) (string, error) {
	st, height, err := readRounds(ctx, c)
	if err != nil || st.Count == 0 {
		return "", err
	}
	var b bytes.Buffer
	err = printRounds(&b, st, height)
	return b.String(), err
}
