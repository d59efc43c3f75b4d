package treemetrics

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/coppice-go/coppice/supervisor"
)

// Handler returns a handler that writes the figures of m in Prometheus's text format, for a program
// that embeds a tree. tree returns the present tree, for the gauges: pass the method Tree of the
// supervisor. The names are those of the metrics of a coppice node. It is safe for concurrent use,
// and needs no library of Prometheus; with one, write a collector over Snapshot instead.
func Handler(m *Metrics, tree func() supervisor.Tree) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var text bytes.Buffer
		m.Snapshot(tree()).writeText(&text)
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = w.Write(text.Bytes()) // the client has gone, and nobody else wants to know
	})
}

// family is a metric of Prometheus. It has a value for each path, or one for the whole tree.
type family struct {
	name, kind, help string
	path             func(Figures) []sample
	whole            func(Snapshot) float64
}

// sample is a value with more labels than the path.
type sample struct {
	labels string
	value  float64
}

// count returns the only sample of a counter.
func count(n uint64) []sample { return []sample{{"", float64(n)}} }

var families = []family{
	{name: "coppice_tree_starts_total", kind: "counter", help: "Acknowledged starts of a child, restarts included.",
		path: func(f Figures) []sample { return count(f.Starts) }},
	{name: "coppice_tree_start_failures_total", kind: "counter", help: "Failed starts of a child.",
		path: func(f Figures) []sample { return count(f.StartFailures) }},
	{name: "coppice_tree_restarts_total", kind: "counter",
		help: "Attempts to restart a child, as its supervisor's limit counts them.",
		path: func(f Figures) []sample { return count(f.Restarts) }},
	{name: "coppice_tree_exits_total", kind: "counter",
		help: "Times that a child ended by itself, by class: normal, shutdown, abnormal.",
		path: func(f Figures) []sample {
			return []sample{{`,class="normal"`, float64(f.Exits.Normal)}, {`,class="shutdown"`, float64(f.Exits.Shutdown)},
				{`,class="abnormal"`, float64(f.Exits.Abnormal)}}
		}},
	{name: "coppice_tree_stops_total", kind: "counter",
		help: "Times that a child ended because its supervisor stopped it.",
		path: func(f Figures) []sample { return count(f.Stops) }},
	{name: "coppice_tree_giveups_total", kind: "counter", help: "Times that a supervisor gave up.",
		path: func(f Figures) []sample { return count(f.GiveUps) }},
	{name: "coppice_tree_orphans_total", kind: "counter",
		help: "Incarnations that did not end within their shutdown time.",
		path: func(f Figures) []sample { return count(f.Orphans) }},
	{name: "coppice_tree_running", kind: "gauge",
		help: "Running incarnations: 1 or 0, or the number of a dynamic supervisor's children.",
		path: func(f Figures) []sample {
			if f.Gauge == nil {
				return nil
			}
			return []sample{{"", float64(f.Gauge.Running)}}
		}},
	{name: "coppice_tree_restart_window_used_ratio", kind: "gauge",
		help: "Share of its restart limit that a supervisor has used: at 1, the next failure is one too many.",
		path: func(f Figures) []sample {
			if f.Gauge == nil || f.Gauge.Period == 0 {
				return nil
			}
			return []sample{{"", f.Gauge.WindowUse()}}
		}},
	{name: "coppice_tree_orphans", kind: "gauge", help: "Incarnations that were given up as orphans and still run.",
		whole: func(s Snapshot) float64 { return float64(s.OrphansNow) }},
	{name: "coppice_tree_events_lost_total", kind: "counter",
		help:  "Events that the counters of the tree missed, because there were too many at once.",
		whole: func(s Snapshot) float64 { return float64(s.EventsLost) }},
}

// escape escapes a label's value.
var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// writeText writes a snapshot in Prometheus's text format.
func (s Snapshot) writeText(w io.Writer) {
	for _, f := range families {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", f.name, f.help, f.name, f.kind)

		if f.whole != nil {
			fmt.Fprintf(w, "%s %v\n", f.name, f.whole(s))
			continue
		}

		for _, p := range s.Paths {
			for _, v := range f.path(p) {
				fmt.Fprintf(w, "%s{path=\"%s\"%s} %v\n", f.name, escape.Replace(p.Path), v.labels, v.value)
			}
		}
	}
}
