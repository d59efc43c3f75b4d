package command

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/cmd/coppice/internal/plain"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/plan"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// childJSON is what "tree --json" prints.
type childJSON struct {
	Path        string      `json:"path"`
	Type        string      `json:"type"`
	Restart     string      `json:"restart,omitempty"`
	Significant bool        `json:"significant,omitempty"`
	Shutdown    string      `json:"shutdown,omitempty"`
	Strategy    string      `json:"strategy,omitempty"`
	MaxRestarts *uint32     `json:"max_restarts,omitempty"`
	PeriodSec   float64     `json:"period_seconds,omitempty"`
	Note        string      `json:"note,omitempty"`
	State       string      `json:"state,omitempty"`
	Incarnation uint64      `json:"incarnation,omitempty"`
	Started     *time.Time  `json:"started,omitempty"`
	Restarts    uint64      `json:"restarts,omitempty"`
	LastExit    string      `json:"last_exit,omitempty"`
	Instances   uint64      `json:"instances,omitempty"`
	Children    []childJSON `json:"children,omitempty"`
}

func (a *app) treeCommand() *cobra.Command {
	var asJSON, spec, watch bool
	var profile string
	cmd := &cobra.Command{
		Use:   "tree",
		Short: "Print the node's supervision tree, as it is or as specified",
		Long: `Tree prints every supervisor and child of a running node: its state, the number of its incarnation,
and how often and why it was restarted. It answers whatever the tree is doing. With --spec it
prints the tree as specified for the home, by its configuration, or for a new home if there is none;
that needs no node.

With --watch it goes on until it is interrupted. On a terminal it draws the tree again whenever it
changes. Otherwise it prints a line for each change; with --json that is the whole tree on a line.
Workers, one for each transaction, come and go without a line.`,
		Example: `  coppice tree
  coppice tree --watch
  coppice tree --spec --profile chaos
  coppice tree --json`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			if cmd.Flags().Changed("profile") && !spec {
				return usageError(cmd, "--profile goes with --spec; a running node has the profile of its start")
			}
			if watch && spec {
				return usageError(cmd, "--watch is for a running node; the specification does not change")
			}
			if watch {
				return a.watchTree(cmd, asJSON)
			}

			if spec {
				tree, err := a.specifiedTree(cmd, profile)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(out, childOf(api.PlanOf(tree)))
				}

				_, err = fmt.Fprint(out, tree)
				return err
			}

			ctx, cancel, c, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer cancel()

			t, err := c.Tree(ctx)
			if err != nil {
				return a.nodeError(ctx, err)
			}
			if asJSON {
				return printJSON(out, childOf(t.Root))
			}

			drawTree(out, paintFor(os.Stdout), t.Root, time.Now())

			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.BoolVar(&watch, "watch", false, "go on, and print each change")
	f.BoolVar(&spec, "spec", false, "print the tree as specified")
	f.StringVar(&profile, "profile", "", "with --spec: default, strict or chaos (default: that of the home)")
	profiles(cmd, "profile")

	return cmd
}

// specifiedTree returns the specified tree of the home, or of a new home if there is none.
func (a *app) specifiedTree(cmd *cobra.Command, profile string) (plan.Place, error) {
	c := config.Defaults()
	if home.IsHome(a.home) {
		s, err := config.Resolve(a.home, config.Sources{Environ: os.Environ()})
		if err != nil {
			return plan.Place{}, err
		}
		c = s.Config
	}

	if profile != "" {
		p, err := plan.ParseProfile(profile)
		if err != nil {
			return plan.Place{}, usageError(cmd, "--profile: %w", err)
		}
		c.Profile = p
	}

	return c.Plan().WithStreams(c.Profile), nil
}

func childOf(c *apiv1.Child) childJSON {
	s, l := c.GetSpec(), c.GetLive()
	j := childJSON{
		Path: c.GetPath(), Type: enumWord(c.GetType(), "CHILD_TYPE_"), Restart: enumWord(s.GetRestart(), "RESTART_"),
		Significant: s.GetSignificant(), Shutdown: s.GetShutdown(), Strategy: enumWord(s.GetStrategy(), "STRATEGY_"),
		Note:  s.GetNote(),
		State: enumWord(l.GetState(), "CHILD_STATE_"), Incarnation: l.GetIncarnation(), Started: timeOf(l.GetStarted()),
		Restarts: l.GetRestarts(), LastExit: l.GetLastExit(), Instances: l.GetInstances(),
	}

	if c.GetType() == apiv1.ChildType_CHILD_TYPE_SUPERVISOR {
		n := s.GetMaxRestarts()
		j.MaxRestarts, j.PeriodSec = &n, s.GetPeriod().AsDuration().Seconds()
	}

	for _, child := range c.GetChildren() {
		j.Children = append(j.Children, childOf(child))
	}

	return j
}

// drawTree prints a line for each child: its id, its state, and its restarts.
func drawTree(w io.Writer, p paint, root *apiv1.Child, now time.Time) {
	var draw func(c *apiv1.Child, first, rest string)
	draw = func(c *apiv1.Child, first, rest string) {
		fmt.Fprintf(w, "%s%s\n", p.dim(first), describe(p, c, now))
		for i, child := range c.Children {
			if i == len(c.Children)-1 {
				draw(child, rest+"└── ", rest+"    ")
			} else {
				draw(child, rest+"├── ", rest+"│   ")
			}
		}
	}
	draw(root, "", "")
}

func describe(p paint, c *apiv1.Child, now time.Time) string {
	s, l := c.GetSpec(), c.GetLive()
	var b strings.Builder
	fmt.Fprintf(&b, "%s  ", p.bold(c.Id))

	switch state := enumWord(l.GetState(), "CHILD_STATE_"); l.GetState() {
	case apiv1.ChildState_CHILD_STATE_RUNNING:
		b.WriteString(p.good(state))
	default:
		b.WriteString(p.bad(state))
	}

	if l.GetIncarnation() != 0 {
		fmt.Fprintf(&b, " #%d", l.GetIncarnation())
	}
	if t := timeOf(l.GetStarted()); t != nil {
		fmt.Fprintf(&b, " for %v", now.Sub(*t).Round(time.Second))
	}

	switch s.GetStrategy() {
	case apiv1.Strategy_STRATEGY_UNSPECIFIED:
	case apiv1.Strategy_STRATEGY_DYNAMIC:
		b.WriteString(p.dim(fmt.Sprintf("  dynamic, %d children", l.GetInstances())))
	default:
		b.WriteString(p.dim(fmt.Sprintf("  %s, %d of %d in %v", enumWord(s.GetStrategy(), "STRATEGY_"), l.GetInWindow(),
			s.GetMaxRestarts(), s.GetPeriod().AsDuration())))
	}

	if l.GetRestarts() > 0 {
		fmt.Fprintf(&b, "  restarts %d", l.GetRestarts())
	}
	if l.GetLastExit() != "" {
		b.WriteString(p.dim("  last exit: " + plain.Line(l.GetLastExit(), 120)))
	}

	return b.String()
}
