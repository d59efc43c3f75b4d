package command

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/cmd/coppice/internal/chaos"
	"github.com/coppice-go/coppice/node/plan"
)

func (a *app) testnetChaos(dir *string) *cobra.Command {
	var c chaos.Config
	var asJSON, keep bool
	var profile string
	cmd := &cobra.Command{
		Use:   "chaos",
		Short: "Run a testnet under load and trouble, and check what it promises",
		Long: `Chaos makes a testnet of its own and runs it under load at every node, in episodes of trouble that
--seed chooses. In an episode, nodes are cut off, paused (SIGSTOP) or killed (SIGKILL), with or
without a quorum left. Meanwhile, children of their trees are killed, by path and way, and so are
their CometBFT processes. Clients at every node write registers, compare and set them, and read them
by consistent reads.

Chaos exits 0 only if all of these rules held:

  no fork              one block and one app hash at each height, on every node, none left out
  nothing lost         every node has what was acknowledged
  nothing twice        what was acknowledged had its effect only once
  no quorum, no block  without a quorum there is no new height
  watchdogs silent     without a quorum no watchdog restarts CometBFT
  on within the bound  within 30 s after the quorum is back there is a new height, and then every
                       node reaches it
  linearizable         each register behaves as if there were only one copy of it
  verified             the stopped homes verify
  nothing unexpected   no refusal, no failed transaction, no node that ended by itself (with
                       --profile default or strict, its tree may give up)

The same seed gives the same plan. What the nodes do under it differs from run to run.`,
		Example: `  coppice testnet chaos
  coppice testnet chaos --duration 15m --seed 7 --json
  coppice testnet chaos --dir /tmp/chaos --keep`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			switch {
			case c.Nodes < 4:
				return usageError(cmd, "--nodes is %d, want at least 4: fewer cannot do without one of them",
					c.Nodes)
			case c.Rate <= 0:
				return usageError(cmd, "--rate is %v, want more than 0", c.Rate)
			case c.Duration <= 0:
				return usageError(cmd, "--duration is %v, want more than 0", c.Duration)
			}

			if c.Profile, err = plan.ParseProfile(profile); err != nil {
				return usageError(cmd, "--profile: %w", err)
			}
			if c.Bin, err = os.Executable(); err != nil {
				return err
			}

			if c.Dir = *dir; c.Dir == "" {
				c.Dir, err = os.MkdirTemp("", "coppice-")
			} else {
				keep, err = true, os.MkdirAll(c.Dir, 0o755)
			}
			if err != nil {
				return err
			}

			show := newProgress()
			defer show.end()

			t := &chaosTable{out: cmd.OutOrStdout(), paint: paintFor(os.Stdout), quiet: asJSON, show: show}
			c.Begun, c.Doing, c.Episode = func() { t.begin(c) }, show.line, t.row
			res, err := chaos.Run(cmd.Context(), c)
			show.clear()
			if keep = keep || res.Bad(); !keep {
				err = errors.Join(err, os.RemoveAll(c.Dir))
			}
			if err != nil {
				for _, v := range res.Violations {
					fmt.Fprintln(cmd.ErrOrStderr(), "violated:", v)
				}
				return fmt.Errorf("chaos: after %d episodes in %v, seed %d: %w", res.Episodes,
					res.Elapsed.Round(time.Second), c.Seed, err)
			}

			if asJSON {
				err = printJSON(cmd.OutOrStdout(), chaosOf(c, res))
			} else {
				t.verdict(c, res, keep)
			}

			if err == nil && res.Bad() {
				err = fmt.Errorf("chaos: %d violations; the homes and the output of the nodes are in %s",
					len(res.Violations), res.Dir)
			}

			return err
		},
	}
	f := cmd.Flags()
	f.IntVarP(&c.Nodes, "nodes", "n", 4, "how many nodes")
	f.DurationVar(&c.Duration, "duration", time.Minute,
		"how long the episodes last; starting, stopping and checking take extra time")
	f.Uint64Var(&c.Seed, "seed", uint64(time.Now().UnixNano()), "seed of the plan (default: the time)")
	f.Float64Var(&c.Rate, "rate", 300, "transactions per second of the load over all nodes, if they keep up")
	f.StringVar(&profile, "profile", string(plan.Chaos), "limits of the nodes' trees: default, strict or chaos")
	profiles(cmd, "profile")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.BoolVar(&keep, "keep", false, "keep the homes and the output of the nodes; they are always kept if a rule "+
		"did not hold")

	return cmd
}

// chaosTable prints each episode when it ends.
type chaosTable struct {
	out   io.Writer
	paint paint
	quiet bool
	show  *progressBar
}

const chaosColumns = "%4s %7s  %-17s %-10s %7s %5s %12s %7s\n"

func (t *chaosTable) begin(c chaos.Config) {
	if t.quiet {
		return
	}
	t.show.clear()
	fmt.Fprintf(t.out, "%d nodes in %s, seed %d, %v\n\n", c.Nodes, c.Dir, c.Seed, c.Duration)
	fmt.Fprint(t.out, t.paint.bold(fmt.Sprintf(chaosColumns, "", "at", "trouble", "nodes", "for", "blows",
		"ms to height", "height")))
}

func (t *chaosTable) row(e chaos.Episode) {
	if t.quiet {
		return
	}

	t.show.clear()
	nodes := strings.Trim(strings.ReplaceAll(fmt.Sprint(e.Nodes), " ", ","), "[]")
	if nodes == "" {
		nodes = "-"
	}

	line := fmt.Sprintf(chaosColumns, fmt.Sprint(e.N), e.Began.Round(time.Second), e.Trouble, nodes,
		e.Lasted.Round(100*time.Millisecond),
		fmt.Sprint(e.Blows), fmt.Sprintf("%.0f", ms(e.Back)), fmt.Sprint(e.Height))

	if e.Bad > 0 {
		line = strings.TrimSuffix(line, "\n") + t.paint.bad(fmt.Sprintf("  %d violations", e.Bad)) + "\n"
	}

	fmt.Fprint(t.out, line)
}

func (t *chaosTable) verdict(c chaos.Config, r chaos.Result, kept bool) {
	word := t.paint.good("PASS")
	if r.Bad() {
		word = t.paint.bad("FAIL")
	}

	var troubles []string
	for _, name := range slices.Sorted(maps.Keys(r.Troubles)) {
		troubles = append(troubles, fmt.Sprintf("%s %d", name, r.Troubles[name]))
	}

	fmt.Fprintf(t.out, "\n%s: %d episodes in %v, seed %d, load average %.1f\n", word, r.Episodes,
		r.Elapsed.Round(time.Second), c.Seed, r.Load)
	fmt.Fprintf(t.out, "  troubles      %s\n", strings.Join(troubles, ", "))
	fmt.Fprintf(t.out, "  killed        %d children of trees (%d paths and ways), %d CometBFTs, %d nodes; %d blows "+
		"hit nothing\n",
		r.EngineKills(), len(r.Engines), r.Comets, r.Nodes, r.Missed)

	fmt.Fprintf(t.out, "  transactions  %d acknowledged, %d lost, %d twice, %d unknown\n", r.Acknowledged, r.Lost,
		r.Twice, r.Unknown)
	fmt.Fprintf(t.out, "  chain         %d heights, %d comparisons\n", r.Heights, r.Compared)
	fmt.Fprintf(t.out, "  quorum        away for %v; at most %.0f ms from its return to a new height\n",
		r.Standing.Round(time.Second), ms(r.Slowest))

	fmt.Fprintf(t.out, "  watchdogs     reported a missing quorum %d times; restarted CometBFT %d times for "+
		"other reasons\n", r.NoQuorum, r.Restarts)

	if r.GaveUp > 0 {
		fmt.Fprintf(t.out, "  trees         gave up %d times, as their limits say, and were started again\n", r.GaveUp)
	}

	v := r.Register
	fmt.Fprintf(t.out, "  registers     %d operations on %d: %d reads, %d writes, %d compare-and-sets and %d that "+
		"found another value, %d unknown; linearizable: %v\n",
		v.Operations(), v.Keys, v.Gets, v.Puts, v.CAS, v.Conflicts, v.Unknown, v.Linearizable())

	for _, v := range r.Violations {
		fmt.Fprintln(t.out, t.paint.bad("  "+v.String()))
	}

	if kept {
		fmt.Fprintln(t.out, "kept:", r.Dir)
	}
}

// chaosJSON is what "testnet chaos --json" prints.
type chaosJSON struct {
	OK           bool                 `json:"ok"`
	Seed         uint64               `json:"seed"`
	Nodes        int                  `json:"nodes"`
	Seconds      float64              `json:"seconds"`
	LoadAverage  float64              `json:"load_average"`
	Episodes     int                  `json:"episodes"`
	Troubles     map[string]int       `json:"troubles"`
	Kills        chaosKillsJSON       `json:"kills"`
	Acknowledged int                  `json:"acknowledged"`
	Lost         int                  `json:"lost"`
	Twice        int                  `json:"twice"`
	Unknown      int                  `json:"unknown"`
	Heights      int                  `json:"heights"`
	Compared     int                  `json:"compared"`
	NoQuorum     float64              `json:"no_quorum_seconds"`
	Slowest      float64              `json:"slowest_ms"`
	Told         int                  `json:"watchdog_told"`
	Restarts     int                  `json:"watchdog_restarts"`
	GaveUp       int                  `json:"gave_up"`
	Registers    chaosRegistersJSON   `json:"registers"`
	Violations   []chaosViolationJSON `json:"violations"`
	Dir          string               `json:"dir,omitempty"`
}

type chaosKillsJSON struct {
	Tree   map[string]int `json:"tree"` // by path and way
	Comets int            `json:"comets"`
	Nodes  int            `json:"nodes"`
	Missed int            `json:"missed"`
}

type chaosRegistersJSON struct {
	Keys         int  `json:"keys"`
	Operations   int  `json:"operations"`
	Reads        int  `json:"reads"`
	Writes       int  `json:"writes"`
	CAS          int  `json:"cas"`
	Conflicts    int  `json:"conflicts"`
	Unknown      int  `json:"unknown"`
	Linearizable bool `json:"linearizable"`
}

type chaosViolationJSON struct {
	At   float64 `json:"at_seconds"`
	Rule string  `json:"rule"`
	What string  `json:"what"`
}

func chaosOf(c chaos.Config, r chaos.Result) chaosJSON {
	v := r.Register
	j := chaosJSON{
		OK: !r.Bad(), Seed: c.Seed, Nodes: c.Nodes, Seconds: r.Elapsed.Seconds(), LoadAverage: r.Load,
		Episodes: r.Episodes, Troubles: r.Troubles,
		Kills:        chaosKillsJSON{r.Engines, r.Comets, r.Nodes, r.Missed},
		Acknowledged: r.Acknowledged, Lost: r.Lost, Twice: r.Twice, Unknown: r.Unknown, Heights: r.Heights,
		Compared: r.Compared,
		NoQuorum: r.Standing.Seconds(), Slowest: ms(r.Slowest), Told: r.NoQuorum, Restarts: r.Restarts,
		GaveUp: r.GaveUp,
		Registers: chaosRegistersJSON{v.Keys, v.Operations(), v.Gets, v.Puts, v.CAS, v.Conflicts, v.Unknown,
			v.Linearizable()},
		Violations: []chaosViolationJSON{},
	}

	for _, v := range r.Violations {
		j.Violations = append(j.Violations, chaosViolationJSON{v.At.Seconds(), string(v.Rule), v.What})
	}

	if r.Bad() {
		j.Dir = r.Dir
	}

	return j
}
