package gate

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/coppice-go/coppice/engines/streams"
)

// The defaults of a gate.
const (
	DefaultTimeout    = 30 * time.Second
	DefaultSpillBytes = 4 << 30
	DefaultSpillTime  = time.Hour
)

// table is the table of a gate while it is read.
type table struct {
	*file
	index int
}

// at returns the place of a key, or of the gate if the table lacks the key.
func (t table) at(key string) place {
	if t.index >= len(t.of) {
		return t.places[gateTable] // a gate in a list of inline tables
	}
	if p, ok := t.of[t.index][key]; ok {
		return p
	}
	return t.of[t.index][""]
}

func (t table) bad(key, format string, args ...any) { t.file.bad(t.at(key), key+": "+format, args...) }

// gate returns the gate of a table.
func (t table) gate(values map[string]any, sinks Sinks) Gate {
	g := Gate{Timeout: DefaultTimeout, OnExceed: Spill, SpillBytes: DefaultSpillBytes, SpillTime: DefaultSpillTime,
		Then: Pause, Ack: streams.Durable}
	low := false

	for _, key := range slices.Sorted(maps.Keys(values)) {
		v := values[key]

		switch key {
		case "name":
			t.text(key, v, &g.Name)
		case "sinks":
			g.Sinks = t.names(key, v)
		case "n":
			g.Need = t.need(key, v)
		case "max_lag":
			t.count(key, v, &g.MaxLag)
		case "low_water":
			low = t.count(key, v, &g.LowWater)
		case "timeout":
			t.duration(key, v, 0, &g.Timeout)
		case "on_exceed":
			g.OnExceed = t.action(key, v, Halt, Pause, Drop, Spill)
		case "spill_bytes":
			var n uint64
			if t.count(key, v, &n); n == 0 {
				t.bad(key, "want 1 or more bytes")
			}
			g.SpillBytes = int64(n)
		case "spill_time":
			t.duration(key, v, time.Nanosecond, &g.SpillTime)
		case "then":
			g.Then = t.action(key, v, Halt, Pause, Drop)
		case "ack":
			g.Ack = t.ack(key, v)
		case "accept_degraded":
			if b, ok := v.(bool); ok {
				g.AcceptDegraded = b
			} else {
				t.bad(key, "%v, want true or false", v)
			}
		default:
			t.file.bad(t.at(key), "unknown key %q of a gate", key)
		}
	}

	if !low {
		g.LowWater = g.MaxLag / 2
	}
	t.check(g, values, sinks)

	return g
}

// check reports what is missing, and what does not fit together.
func (t table) check(g Gate, has map[string]any, sinks Sinks) {
	for _, key := range []string{"name", "sinks", "n"} {
		if _, ok := has[key]; !ok {
			t.bad(key, "is missing")
		}
	}

	if name, ok := has["name"].(string); ok && streams.CheckName(name) != nil {
		t.bad("name", "%.80q is no name of a gate: want a letter, then at most 62 letters, digits, '_' and '-', in "+
			"lower case", g.Name)
	}

	for i, name := range g.Sinks {
		level, ok := sinks.Ack(name)
		switch {
		case slices.Contains(g.Sinks[:i], name):
			t.bad("sinks", "names %q twice", name)
		case !ok:
			t.bad("sinks", "there is no sink %q, want some of: %s", name, list(sinks.Names()))
		case level < g.Ack:
			t.bad("sinks", "an acknowledgment of %s means %q, and the gate wants %q: change the sink, or the gate's "+
				"ack", name, level, g.Ack)
		}
	}

	switch {
	case has["sinks"] != nil && len(g.Sinks) == 0:
		t.bad("sinks", "names no sink")
	case g.Need > len(g.Sinks):
		t.bad("n", "%d of %d sinks", g.Need, len(g.Sinks))
	case g.LowWater > g.MaxLag:
		t.bad("low_water", "%d is above max_lag = %d", g.LowWater, g.MaxLag)
	}

	for _, key := range []string{"spill_bytes", "spill_time", "then"} {
		if has[key] != nil && g.OnExceed != Spill {
			t.bad(key, "is for on_exceed = %q only", Spill)
		}
	}
}

func list(names []string) string {
	if len(names) == 0 {
		return "(none is defined)"
	}
	return strings.Join(names, ", ")
}

func (t table) text(key string, v any, to *string) {
	s, ok := v.(string)
	if !ok {
		t.bad(key, "%v, want a text", v)
	}
	*to = s
}

func (t table) names(key string, v any) (names []string) {
	values, ok := v.([]any)
	for _, v := range values {
		name, is := v.(string)
		ok = ok && is
		names = append(names, name)
	}
	if !ok {
		t.bad(key, "%v, want a list of names of sinks", v)
		return nil
	}
	return names
}

// need reads n, the number of sinks; 0 is "all".
func (t table) need(key string, v any) int {
	if n, ok := v.(int64); ok && n >= 1 && n < 1<<20 {
		return int(n)
	}
	if v != "all" {
		t.bad(key, "%v, want a number of sinks, or \"all\"", v)
	}
	return 0
}

// mostCount bounds numbers, so that they can be added up.
const mostCount = 1 << 62

func (t table) count(key string, v any, to *uint64) bool {
	n, ok := v.(int64)
	if !ok || n < 0 || n > mostCount {
		t.bad(key, "%v, want a number from 0", v)
		return false
	}
	*to = uint64(n)
	return true
}

func (t table) duration(key string, v any, least time.Duration, to *time.Duration) {
	s, ok := v.(string)
	d, err := time.ParseDuration(s)
	if !ok || err != nil || d < least {
		t.bad(key, "%v, want a duration such as \"30s\"", v)
		return
	}
	*to = d
}

func (t table) action(key string, v any, of ...Action) Action {
	s, _ := v.(string)
	if a := Action(s); slices.Contains(of, a) {
		return a
	}
	t.bad(key, "%v, want one of %q", v, of)
	return Pause
}

func (t table) ack(key string, v any) streams.AckLevel {
	s, _ := v.(string)
	level, ok := streams.ParseAckLevel(s)
	if !ok {
		t.bad(key, "%v, want one of %q", v, []streams.AckLevel{streams.Received, streams.Durable, streams.Processed})
	}
	return level
}
