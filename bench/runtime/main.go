// Command runtime measures the runtime (supervisor, engines, pubsub) beside plain Go and its peers:
// suture, protoactor-go and Erlang/OTP. It prints one table. The programs take turns: each round
// runs every program of a row once, so that a change of the machine's speed meets all of them.
//
// A figure is the median of the rounds, and a ratio is the median of the ratios within each round.
// docs/performance.md explains the rows.
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
)

func main() {
	rounds := flag.Int("rounds", 5, "rounds; every program of a row runs once in each")
	only := flag.String("rows", ".", "regular expression that selects rows by their name")
	by := flag.String("columns", ".", "regular expression that selects programs by their column; plain Go always runs")
	quick := flag.Int("divide", 1, "divide the work of each program by this number, for a quick look")
	pictures := flag.String("plots", "", "instead of the table, draw what work costs as it grows, into this directory")
	most := flag.Int("plot-to", 300_000, "the most children and subscribers of a plot")
	lengths := flag.Int("plot-length", 1_000_000, "the longest log and the most keys of a plot")
	flag.Parse()

	if err := run(options{*rounds, *only, *by, *quick, *pictures, *most, *lengths}); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	rounds        int
	rows, columns string
	divide        int
	plots         string
	most, lengths int
}

// run measures the selected rows and prints the table, or draws the plots.
func run(o options) error {
	selected, err := regexp.Compile(o.rows)
	if err != nil {
		return fmt.Errorf("-rows: %w", err)
	}
	columns, err := regexp.Compile(o.columns)
	if err != nil {
		return fmt.Errorf("-columns: %w", err)
	}
	if o.rounds < 1 || o.divide < 1 {
		return fmt.Errorf("-rounds and -divide are %d and %d; expected 1 or more", o.rounds, o.divide)
	}

	var erlang *otpNode
	why := ""
	if columns.MatchString(otp) {
		if erlang, why = startOTP(); erlang != nil {
			defer erlang.stop()
		}
	}

	if o.plots != "" {
		return plot(o, erlang, selected, columns)
	}

	t := newTable(why)

	for _, r := range rows(erlang) {
		if !selected.MatchString(r.name) {
			continue
		}

		for range o.rounds {
			for _, p := range r.programs {
				if p.by != plain && !columns.MatchString(p.by) {
					continue
				}
				m := &meter{n: max(1, r.work/o.divide)}
				if err := p.run(m); err != nil {
					return fmt.Errorf("%s, %s: %w", r.name, p.by, err)
				}
				t.add(r, p.by, m)
			}
		}
	}

	return t.print(os.Stdout)
}
