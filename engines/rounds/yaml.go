package rounds

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ClassName returns the name of the round as a specification has it: observe is ObserveRound.
func (n Name) ClassName() string {
	var b strings.Builder
	for part := range strings.SplitSeq(string(n), "_") {
		if part != "" {
			b.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return b.String() + "Round"
}

// YAML returns the table as an fsm_specification, the format in which services of this kind publish
// their tables. Events are in capitals, states end in Round, and everything is sorted.
func (t Table[S]) YAML() string {
	return specification(t.Label, t.Start, t.starts(), t.finals(), t.Rounds)
}

// YAML returns the composed service as one fsm_specification. Background rounds are no part of it.
func (s *Service[S]) YAML() string {
	rows := Rows[S]{}
	var starts, finals []Name
	for _, t := range s.tables {
		for name, row := range t.Rounds {
			if _, linked := s.links[name]; linked {
				continue
			}
			on := On{}
			for e, next := range row.On {
				on[e] = s.follow(next)
			}
			row.On = on
			rows[name] = row
		}

		for _, f := range t.finals() {
			if _, linked := s.links[f]; !linked {
				finals = append(finals, f)
			}
		}
	}

	if len(s.tables) > 0 {
		starts = s.tables[0].starts()
	}
	slices.Sort(finals)
	return specification(s.label, s.start, starts, finals, rows)
}

func specification[S any](label string, start Name, starts, finals []Name, rows Rows[S]) string {
	var b strings.Builder
	list := func(key string, items []string) {
		slices.Sort(items)
		if len(items) == 0 {
			fmt.Fprintf(&b, "%s: []\n", key)
			return
		}
		fmt.Fprintf(&b, "%s:\n", key)
		for _, i := range items {
			fmt.Fprintf(&b, "- %s\n", i)
		}
	}

	events := map[Event]bool{}
	var transitions []string
	for name, row := range rows {
		for e, next := range row.On {
			events[e] = true
			transitions = append(transitions, fmt.Sprintf("    (%s, %s): %s", name.ClassName(), e, next.ClassName()))
		}
	}

	list("alphabet_in", texts(slices.Collect(maps.Keys(events)), func(e Event) string { return string(e) }))
	fmt.Fprintf(&b, "default_start_state: %s\n", start.ClassName())
	list("final_states", texts(finals, Name.ClassName))
	fmt.Fprintf(&b, "label: %s\n", label)
	list("start_states", texts(starts, Name.ClassName))
	list("states", texts(slices.Collect(maps.Keys(rows)), Name.ClassName))

	slices.Sort(transitions)
	if len(transitions) == 0 {
		return b.String() + "transition_func: {}\n"
	}
	return b.String() + "transition_func:\n" + strings.Join(transitions, "\n") + "\n"
}

func texts[T any](items []T, text func(T) string) []string {
	out := make([]string, len(items))
	for i, item := range items {
		out[i] = text(item)
	}
	return out
}
