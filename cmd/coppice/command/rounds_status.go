package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/engines/rounds/replicated"
)

func (a *app) roundsStatus() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show where the service of a node stands",
		Long: `Status prints the state of the node's service as of one block: the round, who has spoken in it, the
deadlines, the background rounds and the offences of agents. With --json it prints the whole state.
Any program can show the service of any node.`,
		Example: "  coppice rounds status\n  coppice rounds status --json",
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel, c, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer cancel()

			st, height, err := readRounds(ctx, c)
			if err != nil {
				return a.nodeError(ctx, err)
			}
			if st.Count == 0 {
				return errors.New("this chain has no service of rounds, or no block yet")
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), roundsJSON{height, st})
			}

			return printRounds(cmd.OutOrStdout(), st, height)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// anyState is the state of a service whose type the program need not know.
type anyState = rounds.State[json.RawMessage]

// roundsJSON is what "rounds status --json" prints.
type roundsJSON struct {
	Height uint64   `json:"height"`
	State  anyState `json:"state"`
}

// readRounds reads the state of a service at one height.
func readRounds(ctx context.Context, c *client.Client) (st anyState, height uint64, err error) {
	status, err := c.Status(ctx)
	if err != nil {
		return st, 0, err
	}

	if height = status.Height; height == 0 {
		return st, 0, nil
	}
	st, _, err = replicated.Read[json.RawMessage](func(key []byte) ([]byte, bool, error) {
		return c.GetAt(ctx, key, height)
	})
	return st, height, err
}

func printRounds(out io.Writer, st anyState, height uint64) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(w, name+"\t"+format+"\n", args...) }

	line("round", "%s, count %d", st.Round, st.Count)
	line("period", "%d", st.Period)
	line("height", "%d", height)
	line("participants", "%s", names(st.Participants))
	line("have spoken", "%s", names(speakers(st.Ballot)))

	if st.Ballot.Broken {
		line("broken", "a function of the app has panicked: only a timeout ends the round")
	}
	for _, d := range st.Deadlines {
		line("deadline", "%s at %s", d.Event, d.At.UTC().Format(time.RFC3339Nano))
	}
	if in := st.Interrupted; in != nil {
		line("interrupted", "%s, count %d", in.Round, in.Count)
	}
	for i, side := range st.Sides {
		line("background", "round %d, count %d: %s", i+1, side.Count, names(speakers(side.Ballot)))
	}
	for _, a := range slices.Sorted(maps.Keys(st.Offences)) {
		o := st.Offences[a]
		line("offences", "%s: %d faults, %d double signs, %d rounds without its validator", a, o.Faults, o.DoubleSigns,
			o.Downtime)
	}

	return w.Flush()
}

func speakers(b rounds.Ballots) (agents []rounds.Agent) {
	for _, v := range b.Votes {
		agents = append(agents, v.Agent)
	}
	return agents
}

func names(agents []rounds.Agent) string {
	if len(agents) == 0 {
		return "none"
	}
	texts := make([]string, len(agents))
	for i, a := range agents {
		texts[i] = string(a)
	}
	return strings.Join(texts, ", ")
}
