package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/cmd/coppice/internal/demo"
)

// demoJSON is what "demo --json" prints.
type demoJSON struct {
	OK           bool          `json:"ok"`
	Seed         uint64        `json:"seed"`
	Rows         []demoRowJSON `json:"rows"`
	Acknowledged int           `json:"acknowledged"`
	Lost         int           `json:"lost"`
	Twice        int           `json:"twice"`
	Unknown      int           `json:"unknown"`
	Verify       string        `json:"verify"`
	Seconds      float64       `json:"seconds"`
}

type demoRowJSON struct {
	Path         string   `json:"path"`
	How          string   `json:"how"`
	Restarted    []string `json:"restarted"`
	NextCommit   float64  `json:"next_commit_ms"`
	Acknowledged int      `json:"acknowledged"`
	Lost         int      `json:"lost"`
	Twice        int      `json:"twice"`
	Problem      string   `json:"problem,omitempty"`
}

const demoIntro = `Demo runs a node with a home of its own as a child process, under load. It kills every path of the
node's tree in every way that applies: error, panic, the end of its goroutine, hang, and stop for a
supervisor. Then it kills the whole process.

The profile is chaos, which raises the restart limits: a tree of the default profile would rightly
give up under so many kills in so short a time. Limits of zero stay zero, so what must escalate at
once still does.

Each transaction adds 1 to a counter of its own. An acknowledged transaction whose counter is absent
was lost, and one whose counter is 2 was applied twice. Both are counted from outside.

`

func (a *app) demoCommand() *cobra.Command {
	c := demo.Config{SIGKILLs: 5}
	var asJSON, noSIGKILL bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Kill every part of a node under load, and count what is lost (nothing)",
		Long:  demoIntro + "Demo takes less than a minute. It exits 0 only if nothing was lost or applied twice.",
		Example: `  coppice demo
  coppice demo --quick --json
  coppice demo --seed 7 --keep`,
		Args:        words(),
		Annotations: map[string]string{homeUse: homeUnused},
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if c.Bin, err = os.Executable(); err != nil {
				return err
			}
			if c.Rate <= 0 {
				return usageError(cmd, "--rate is %v, want more than 0", c.Rate)
			}

			c.Shuffle = cmd.Flags().Changed("seed")

			switch {
			case noSIGKILL:
				c.SIGKILLs = 0
			case c.Quick:
				c.SIGKILLs = 2
			}

			out := cmd.OutOrStdout()
			table := &demoTable{out: out, paint: paintFor(os.Stdout), quiet: asJSON}
			show := newProgress()
			defer show.end()

			c.Begun = table.begin
			c.Doing = show.line
			c.Row = func(r demo.Row) { show.clear(); table.row(r) }
			res, err := demo.Run(cmd.Context(), c)
			show.clear()
			if err != nil {
				return fmt.Errorf("demo: %w", err)
			}

			if asJSON {
				err = printJSON(out, demoOf(c.Seed, res))
			} else {
				table.verdict(c, res)
			}

			if err == nil && res.Bad() {
				err = errors.New("demo: the node did not keep its promise")
			}

			return err
		},
	}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.BoolVar(&c.Keep, "keep", false, "keep the home and the node's output")
	f.BoolVar(&c.Quick, "quick", false, "kill each path in only one way")
	f.BoolVar(&noSIGKILL, "no-sigkill", false, "do not kill the process")
	f.Float64Var(&c.Rate, "rate", 1500, "transactions per second of the load, if the node keeps up")
	f.Uint64Var(&c.Seed, "seed", 0, "seed of the order and the moments of the kills (default: in the tree's order)")

	return cmd
}

// demoTable prints each row when its kill is done.
type demoTable struct {
	out   io.Writer
	paint paint
	quiet bool
}

const demoColumns = "%-42s %-8s %-28s %10s %7s %5s %6s\n"

func (t *demoTable) begin(home string) {
	if t.quiet {
		return
	}
	fmt.Fprint(t.out, demoIntro, "home: ", home, "\n\n")
	fmt.Fprint(t.out, t.paint.bold(fmt.Sprintf(demoColumns, "path", "how", "restarted with it", "ms to next", "acked",
		"lost", "twice")))
}

func (t *demoTable) row(r demo.Row) {
	if t.quiet {
		return
	}
	with := strings.Join(r.Restarted, ", ")
	if with == "" {
		with = "-"
	}

	line := fmt.Sprintf(demoColumns, r.Path, r.How, with, fmt.Sprintf("%.0f", ms(r.NextCommit)),
		fmt.Sprint(r.Acknowledged), fmt.Sprint(r.Lost), fmt.Sprint(r.Twice))

	if r.Bad() {
		line = t.paint.bad(line)
	}

	fmt.Fprint(t.out, line)
	if r.Problem != "" {
		fmt.Fprintln(t.out, t.paint.bad("    "+r.Problem))
	}
}

func (t *demoTable) verdict(c demo.Config, r demo.Result) {
	bad := 0
	for _, row := range r.Rows {
		if row.Problem != "" {
			bad++
		}
	}

	if c.Keep {
		fmt.Fprintf(t.out, "\nkept: %s\n", r.Dir)
	}

	verify := "the home verifies"
	if r.Verify != nil {
		verify = r.Verify.Error()
	}

	word := t.paint.good("PASS")
	if r.Bad() {
		word = t.paint.bad("FAIL")
	}

	fmt.Fprintf(t.out, "\n%s: %d kills in %v, %d with a problem; %d acknowledged, %d lost, %d twice, %d unknown; %s\n",
		word, len(r.Rows),
		r.Elapsed.Round(100*time.Millisecond), bad, r.Acknowledged, r.Lost, r.Twice, r.Unknown, verify)
}

func demoOf(seed uint64, r demo.Result) demoJSON {
	j := demoJSON{
		OK: !r.Bad(), Seed: seed, Acknowledged: r.Acknowledged, Lost: r.Lost, Twice: r.Twice, Unknown: r.Unknown,
		Verify:  "whole",
		Seconds: r.Elapsed.Seconds(),
	}

	if r.Verify != nil {
		j.Verify = r.Verify.Error()
	}

	for _, row := range r.Rows {
		j.Rows = append(j.Rows, demoRowJSON{row.Path, row.How, row.Restarted, ms(row.NextCommit), row.Acknowledged,
			row.Lost, row.Twice, row.Problem})
	}

	return j
}
