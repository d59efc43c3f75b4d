package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// benchmark holds the rounds of one benchmark.
type benchmark struct {
	pkg, name string
	rounds    int
	units     []string             // in the order of the output
	values    map[string][]float64 // by unit, one of each round
}

// results is what an output of "go test -bench" says.
type results struct {
	benchmarks []*benchmark
	failed     []string // the lines that say so
}

// procs is the number of processors that go test adds to each name.
var procs = regexp.MustCompile(`-\d+$`)

// read reads an output of "go test -bench".
func read(in io.Reader) (r results, err error) {
	pkg, byName := "", map[string]*benchmark{}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)

	for lines.Scan() {
		line := lines.Text()
		fields := strings.Fields(line)

		switch {
		case strings.HasPrefix(line, "pkg: "):
			pkg = strings.TrimPrefix(line, "pkg: ")

		case strings.HasPrefix(line, "FAIL"), strings.HasPrefix(line, "--- FAIL"), strings.HasPrefix(line, "panic:"):
			r.failed = append(r.failed, line)

		case len(fields) >= 4 && strings.HasPrefix(fields[0], "Benchmark"):
			name := procs.ReplaceAllString(strings.TrimPrefix(fields[0], "Benchmark"), "")
			b := byName[pkg+" "+name]
			if b == nil {
				b = &benchmark{pkg: pkg, name: name, values: map[string][]float64{}}
				byName[pkg+" "+name] = b
				r.benchmarks = append(r.benchmarks, b)
			}
			if err := b.add(fields[2:]); err != nil {
				return r, fmt.Errorf("%q: %w", line, err)
			}
		}
	}

	return r, lines.Err()
}

// add adds a round, of which fields has each value and its unit.
func (b *benchmark) add(fields []string) error {
	if len(fields)%2 != 0 {
		return errors.New("want a unit after each value")
	}
	b.rounds++

	for pair := range slices.Chunk(fields, 2) {
		v, err := strconv.ParseFloat(pair[0], 64)
		if err != nil {
			return err
		}
		if !slices.Contains(b.units, pair[1]) {
			b.units = append(b.units, pair[1])
		}
		b.values[pair[1]] = append(b.values[pair[1]], v)
	}

	return nil
}

// median returns the median of values, of which there is one at least.
func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// spread returns by how much of the median the rounds differ at most from it.
func spread(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	m, most := median(values), 0.0
	if m == 0 {
		return 0
	}
	for _, v := range values {
		most = max(most, (v-m)/m, (m-v)/m)
	}
	return most
}

// columns are the units that have a column of their own.
var columns = []string{"ns/op", "B/op", "allocs/op"}

// print writes the table.
func (r results) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "BENCHMARK\tTIME\t±\tB/OP\tALLOCS\tROUNDS\tMORE")
	pkg := ""

	for _, b := range r.benchmarks {
		if b.pkg != pkg {
			pkg = b.pkg
			fmt.Fprintf(w, "%s\n", pkg)
		}

		var more []string
		for _, u := range b.units {
			if !slices.Contains(columns, u) {
				more = append(more, number(median(b.values[u]))+" "+u)
			}
		}

		fmt.Fprintf(w, "  %s\t%s\t%.0f %%\t%s\t%s\t%d\t%s\n", b.name, b.cell("ns/op", duration),
			100*spread(b.values["ns/op"]), b.cell("B/op", number), b.cell("allocs/op", number),
			b.rounds, strings.Join(more, ", "))
	}

	return w.Flush()
}

// printRatios writes the table of benchmarks that compare a sink with a plain loop
// (sinktest.Compare): the medians of the rounds, and the ratio that is wanted.
func (r results) printRatios(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "BENCHMARK\tSINK EVENTS/S\tPLAIN EVENTS/S\tRATIO\t±\tWANT\tROUNDS\t")
	for _, b := range r.benchmarks {
		ratios := b.values["ratio"]
		if len(ratios) == 0 {
			continue
		}
		verdict := "below"
		if median(ratios) >= median(b.values["want"]) {
			verdict = ""
		}
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.2f\t%.0f %%\t%.1f\t%d\t%s\n", b.name, median(b.values["sink-events/s"]),
			median(b.values["plain-events/s"]), median(ratios), 100*spread(ratios), median(b.values["want"]), b.rounds,
			verdict)
	}
	return w.Flush()
}

// cell returns the median of a unit, or "-" if the benchmark does not report it.
func (b *benchmark) cell(unit string, format func(float64) string) string {
	if len(b.values[unit]) == 0 {
		return "-"
	}
	return format(median(b.values[unit]))
}

// err returns the error for what failed, or nil.
func (r results) err() error {
	if len(r.failed) > 0 {
		return errors.New(strings.Join(r.failed, "; "))
	}
	if len(r.benchmarks) == 0 {
		return errors.New("the output has no benchmark")
	}
	return nil
}

// duration formats nanoseconds with three digits.
func duration(ns float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e9, "s"}, {1e6, "ms"}, {1e3, "µs"}} {
		if ns >= unit.size {
			return number(ns/unit.size) + " " + unit.name
		}
	}
	return number(ns) + " ns"
}

// number formats a number without an exponent.
func number(v float64) string {
	if v >= 100 || v == float64(int64(v)) {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}
