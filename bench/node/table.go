package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// columns are the programs in the order of the table.
var columns = []string{"coppice", "base", "etcd"}

// table collects the figures of all rounds.
type table struct {
	note  string // about a column that is missing
	lines []*line
}

// line is one row: by program, the figure of each round.
type line struct {
	row
	of map[string][]figure
}

func newTable(note string) *table { return &table{note: note} }

func (t *table) add(r row, by string, f figure) {
	at := slices.IndexFunc(t.lines, func(l *line) bool { return l.row == r })
	if at < 0 {
		t.lines = append(t.lines, &line{r, map[string][]figure{}})
		at = len(t.lines) - 1
	}
	t.lines[at].of[by] = append(t.lines[at].of[by], f)
}

func (t *table) print(out io.Writer) error {
	load, _ := os.ReadFile("/proc/loadavg") // another system has no such file
	fmt.Fprintf(out, "%s, %d cores, load %s\n\n", runtime.Version(), runtime.NumCPU(), strings.TrimSpace(string(load)))

	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "row\tcoppice tx/s\tbase tx/s\tetcd tx/s\t÷ base\t÷ etcd\tp50 ms: coppice, base, etcd\t"+
		"syncs a block: coppice, base")

	for _, l := range t.lines {
		cells := []string{l.name}
		for _, by := range columns {
			cells = append(cells, l.median(by, "%.0f", rate))
		}
		cells = append(cells, l.ratio("base"), l.ratio("etcd"))

		var p50s []string
		for _, by := range columns {
			p50s = append(p50s, l.median(by, "%.2f", func(f figure) float64 { return f.p50 }))
		}
		syncs := func(f figure) float64 { return f.syncs }
		cells = append(cells, strings.Join(p50s, ", "), l.median("coppice", "%.2f", syncs)+", "+
			l.median("base", "%.2f", syncs))

		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}

	if err := w.Flush(); err != nil {
		return err
	}

	_, err := fmt.Fprintf(out, "\nMedians of the rounds; ÷ is the median of the ratios within a round. %s\n", t.note)
	return err
}

func rate(f figure) float64 { return f.rate }

// median returns the median of a figure of a program, or "-" if it was not measured.
func (l *line) median(by, format string, of func(figure) float64) string {
	if len(l.of[by]) == 0 {
		return "-"
	}
	var v []float64
	for _, f := range l.of[by] {
		v = append(v, of(f))
	}
	return fmt.Sprintf(format, middle(v))
}

// ratio returns the median of the ratios of our rates to those of a program.
func (l *line) ratio(by string) string {
	ours, theirs := l.of["coppice"], l.of[by]
	if len(theirs) == 0 || len(theirs) != len(ours) {
		return "-"
	}
	var v []float64
	for i := range ours {
		v = append(v, ours[i].rate/theirs[i].rate)
	}
	return fmt.Sprintf("%.2f", middle(v))
}

func middle(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
