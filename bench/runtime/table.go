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

// table collects the figures of all rounds.
type table struct {
	note  string // about a column that is missing
	lines []*line
}

// line is one line of the table: by column, the figure of each round.
type line struct {
	name string
	of   map[string][]figure
}

func newTable(note string) *table { return &table{note: note} }

func (t *table) add(r row, by string, m *meter) {
	for _, f := range m.figures {
		name := r.name
		if f.what != "" {
			name += ", " + f.what
		}

		at := slices.IndexFunc(t.lines, func(l *line) bool { return l.name == name })
		if at < 0 {
			t.lines = append(t.lines, &line{name, map[string][]figure{}})
			at = len(t.lines) - 1
		}

		l := t.lines[at]
		l.of[by] = append(l.of[by], f)
	}
}

// print writes the table: for each program the median of its rounds, its ratio to plain Go, and
// the ratio of the minima in brackets.
func (t *table) print(out io.Writer) error {
	load, _ := os.ReadFile("/proc/loadavg") // another system has no such file
	fmt.Fprintf(out, "%s, %d cores, load %s\n\n", runtime.Version(), runtime.NumCPU(), strings.TrimSpace(string(load)))

	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "row\t"+strings.Join(columns, "\t")+"\tallocations: plain, coppice")

	for _, l := range t.lines {
		cells := []string{l.name}
		for _, c := range columns {
			cells = append(cells, l.cell(c))
		}
		cells = append(cells, fmt.Sprintf("%s, %s", l.allocs(plain), l.allocs(ours)))
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}

	if err := w.Flush(); err != nil {
		return err
	}

	_, err := fmt.Fprintf(out, "\nNanoseconds (bytes for the heap): median of the rounds; × is the median ratio to "+
		"plain Go of the same round,\nin brackets the ratio of the minima. %s\n", t.note)
	return err
}

func (l *line) cell(column string) string {
	mine := l.of[column]
	if len(mine) == 0 {
		return "-"
	}

	text := fmt.Sprintf("%.0f", median(values(mine)))
	if base := l.of[plain]; column != plain && len(base) == len(mine) {
		ratios := make([]float64, len(mine))
		for i := range mine {
			ratios[i] = mine[i].value / base[i].value
		}
		text += fmt.Sprintf(" %.2f× [%.2f]", median(ratios), slices.Min(values(mine))/slices.Min(values(base)))
	}

	return text
}

func (l *line) allocs(column string) string {
	var of []float64
	for _, f := range l.of[column] {
		if f.allocs >= 0 {
			of = append(of, f.allocs)
		}
	}
	if len(of) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", median(of))
}

func values(list []figure) (v []float64) {
	for _, f := range list {
		v = append(v, f.value)
	}
	return v
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}
