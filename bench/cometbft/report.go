package main

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// result is the result of one run of a target.
type result struct {
	closed, open phaseResult
	cpu          usage // of the closed loop, or of the idle time
	idle         time.Duration
}

func (r result) String() string {
	rss := func(p spent) float64 { return float64(p.rss) / (1 << 20) }
	if r.idle > 0 {
		return fmt.Sprintf("idle %v: application %.2f s CPU, %.0f MiB; CometBFT %.2f s, %.0f MiB", r.idle,
			r.cpu.app.cpu.Seconds(), rss(r.cpu.app), r.cpu.comet.cpu.Seconds(), rss(r.cpu.comet))
	}

	s := fmt.Sprintf("closed %6.0f tx/s, p50 %5.1f ms, p99 %6.1f ms, %4.0f tx/block; CPU per 1000 tx %3.0f + %3.0f "+
		"ms; RSS %.0f + %.0f MiB",
		r.closed.rate, quantile(r.closed.latency, 0.5), quantile(r.closed.latency, 0.99),
		float64(r.closed.txs)/float64(max(r.closed.blocks, 1)),
		1e6*r.cpu.app.cpu.Seconds()/float64(max(r.closed.txs, 1)),
		1e6*r.cpu.comet.cpu.Seconds()/float64(max(r.closed.txs, 1)), rss(r.cpu.app), rss(r.cpu.comet))

	if r.open.txs > 0 {
		s += fmt.Sprintf("; open %5.0f tx/s, p50 %5.1f ms, p99 %6.1f ms", r.open.rate, quantile(r.open.latency, 0.5),
			quantile(r.open.latency, 0.99))
	}

	return s
}

// quantile returns the q-quantile of d in milliseconds.
func quantile(d []time.Duration, q float64) float64 {
	if len(d) == 0 {
		return 0
	}
	d = slices.Clone(d)
	slices.Sort(d)
	return float64(d[min(int(q*float64(len(d))), len(d)-1)]) / float64(time.Millisecond)
}

// results holds the results of all rounds.
type results struct {
	targets []string
	of      map[string][]result
}

func newResults(targets []string) *results {
	return &results{targets: targets, of: make(map[string][]result)}
}

func (a *results) add(name string, r result) { a.of[name] = append(a.of[name], r) }

var figures = []struct {
	name string
	of   func(result) float64
}{
	{"closed loop, tx/s", func(r result) float64 { return r.closed.rate }},
	{"closed loop, p50 ms", func(r result) float64 { return quantile(r.closed.latency, 0.5) }},
	{"closed loop, p99 ms", func(r result) float64 { return quantile(r.closed.latency, 0.99) }},
	{"open loop, p50 ms", func(r result) float64 { return quantile(r.open.latency, 0.5) }},
	{"open loop, p99 ms", func(r result) float64 { return quantile(r.open.latency, 0.99) }},
	{"closed loop, CPU ms per 1000 tx", func(r result) float64 {
		return 1e6 * (r.cpu.app.cpu + r.cpu.comet.cpu).Seconds() / float64(max(r.closed.txs, 1))
	}},
	{"idle, CPU ms per second", func(r result) float64 {
		return 1e3 * (r.cpu.app.cpu + r.cpu.comet.cpu).Seconds() / r.idle.Seconds()
	}},
}

// print writes each figure of each target, and the ratios of our figures to those of each other
// target, as minimum, median and maximum.
func (a *results) print(w io.Writer) {
	row := func(name string, values []float64) {
		slices.Sort(values)
		fmt.Fprintf(w, "  %-30s %9.2f %9.2f %9.2f\n", name, values[0], values[len(values)/2], values[len(values)-1])
	}
	for _, f := range figures {
		if a.idle() != (f.name == "idle, CPU ms per second") {
			continue
		}

		fmt.Fprintf(w, "\n%-32s %9s %9s %9s\n", f.name, "min", "median", "max")

		for _, name := range a.targets {
			var values []float64
			for _, r := range a.of[name] {
				values = append(values, f.of(r))
			}
			row(name, values)
		}

		for _, ours := range a.targets {
			for _, theirs := range a.targets {
				if !own(ours) || own(theirs) {
					continue
				}
				var ratios []float64
				for i := range a.of[ours] {
					ratios = append(ratios, f.of(a.of[ours][i])/f.of(a.of[theirs][i]))
				}
				row(ours+" / "+theirs, ratios)
			}
		}
	}
}

func (a *results) idle() bool { return a.of[a.targets[0]][0].idle > 0 }

func own(name string) bool { return name == "coppice" || name == "coppice-rpc" }
