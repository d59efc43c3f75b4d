package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/engines/rounds/explore"
)

// exhaustive are the flags of "rounds check" that bound its search.
type exhaustive struct {
	on     bool
	agents int
	depth  int
	states int
	limit  time.Duration // of the whole search
}

// roundsCheckJSON is what "rounds check --json" prints.
type roundsCheckJSON struct {
	Service  string           `json:"service"`
	Faults   []rounds.Fault   `json:"faults,omitempty"`
	Searches []explore.Result `json:"searches,omitempty"` // one for each number of agents
}

// err returns the faults, or else the findings.
func (c roundsCheckJSON) err() error {
	var all []error
	for _, f := range c.Faults {
		all = append(all, f)
	}
	if len(all) > 0 {
		return fmt.Errorf("%s has %d faults:\n%w", c.Service, len(all), errors.Join(all...))
	}

	for _, s := range c.Searches {
		for _, f := range s.Findings {
			all = append(all, f)
		}
	}
	if len(all) > 0 {
		return fmt.Errorf("%s has findings (%d):\n%w", c.Service, len(all), errors.Join(all...))
	}
	return nil
}

func (a *app) roundsCheck() *cobra.Command {
	var e exhaustive
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the tables of the program's service",
		Long: `Check looks for faults in the tables of the service: an event without a transition, a round that is
never reached, a timeout that nothing names, a link that does not lead from an end to a start, and
so on. It names each fault with its app, round and event, and what to do. It exits 1 if there is
one. A node refuses to start with a service that has a fault.

With --exhaustive it then tries all histories of the service with 1, 2 and up to --agents agents:
each payload that the types of its rounds tell apart, from each agent, in each order. It finds dead
ends (nothing that agents can say and no timeout ends a round), loops without an exit or a timeout,
panics in the functions of the apps, and ends that read a clock or the order of a map (each end is
played twice). It names the shortest history that leads to each, and exits 1. A search that reaches
--depth, --states or --for says how far it came: up to there, it has tried everything.

With --json the faults, the searches and their findings are printed as JSON. The exit code and the
error stay as they are.`,
		Example: `  coppice rounds check
  coppice rounds check --json
  coppice rounds check --exhaustive --agents 3 --for 10m --states 2000000`,
		Args:        words(),
		Annotations: map[string]string{homeUse: homeUnused},
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.program.rounds()
			if err != nil {
				return err
			}
			if err := e.check(cmd); err != nil {
				return err
			}

			out := cmd.OutOrStdout()
			c := roundsCheckJSON{Service: r.service.Label(), Faults: r.service.Check()}
			if len(c.Faults) == 0 && e.on {
				show := out
				if asJSON {
					show = io.Discard
				}
				if c.Searches, err = e.run(cmd.Context(), show, r); err != nil {
					return err
				}
			}

			if asJSON {
				if err := printJSON(out, c); err != nil {
					return err
				}
			}
			if err := c.err(); err != nil || asJSON {
				return err
			}

			finding := ""
			if e.on {
				finding = " and no finding"
			}
			_, err = fmt.Fprintf(out, "%s has no fault%s\n", c.Service, finding)
			return err
		},
	}

	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.BoolVar(&e.on, "exhaustive", false, "try all histories of the service with few agents")
	f.IntVar(&e.agents, "agents", explore.MaxAgents, "with --exhaustive: the largest number of agents, 1 to 4")
	f.IntVar(&e.depth, "depth", 0, "with --exhaustive: the most payloads and blocks of a history; 0: any number")
	f.IntVar(&e.states, "states", 200_000, "with --exhaustive: how many states are tried for each number of agents")
	f.DurationVar(&e.limit, "for", time.Minute, "with --exhaustive: how long the search takes at most")

	return cmd
}

// check returns a usage error for flags that say nothing.
func (e exhaustive) check(cmd *cobra.Command) error {
	for _, name := range []string{"agents", "depth", "states", "for"} {
		if cmd.Flags().Changed(name) && !e.on {
			return usageError(cmd, "--%s bounds the search of --exhaustive", name)
		}
	}

	switch {
	case e.agents < 1 || e.agents > explore.MaxAgents:
		return usageError(cmd, "--agents is %d, want 1 to %d", e.agents, explore.MaxAgents)
	case e.depth < 0:
		return usageError(cmd, "--depth is %d, want 0 or more", e.depth)
	case e.states < 1:
		return usageError(cmd, "--states is %d, want 1 or more", e.states)
	case e.limit <= 0:
		return usageError(cmd, "--for is %v, want a positive duration", e.limit)
	}
	return nil
}

// run searches with 1, 2 and more agents, until there is a finding, and returns the searches.
func (e exhaustive) run(ctx context.Context, out io.Writer, r *Rounds) (searches []explore.Result, err error) {
	limited, cancel := context.WithTimeout(ctx, e.limit)
	defer cancel()

	show := newProgress()
	defer show.end()

	for agents := 1; agents <= e.agents; agents++ {
		found, err := r.explore(limited, explore.Options{Agents: agents, Depth: e.depth, States: e.states,
			Progress: func(states, depth int) {
				steps(show)(fmt.Sprintf("agents %d: %d states, histories of %d steps", agents, states, depth), 0, 0)
			}})
		if err = errors.Join(err, context.Cause(ctx)); err != nil {
			return searches, err
		}

		searches = append(searches, found)
		if len(found.Findings) > 0 {
			return searches, nil
		}

		how := "all histories"
		if !found.Complete {
			how = fmt.Sprintf("all histories of up to %d steps", found.Depth)
		}
		show.clear()
		if _, err := fmt.Fprintf(out, "agents %d: %s, %d states\n", agents, how, found.States); err != nil {
			return searches, err
		}
	}

	return searches, nil
}
