package rounds

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Mermaid returns the table as a state diagram. Events that lead to the same round share an arrow.
func (t Table[S]) Mermaid() string {
	var b strings.Builder
	b.WriteString("stateDiagram-v2\n")
	for _, start := range t.starts() {
		fmt.Fprintf(&b, "    [*] --> %s\n", start.ClassName())
	}
	t.arrows(&b)
	for _, f := range t.finals() {
		fmt.Fprintf(&b, "    %s --> [*]\n", f.ClassName())
	}
	return b.String()
}

func (t Table[S]) arrows(b *strings.Builder) {
	for _, name := range t.names() {
		by := map[Name][]string{}
		for e, next := range t.Rounds[name].On {
			by[next] = append(by[next], string(e))
		}
		for _, next := range slices.Sorted(maps.Keys(by)) {
			slices.Sort(by[next])
			fmt.Fprintf(b, "    %s --> %s: %s\n", name.ClassName(), next.ClassName(), strings.Join(by[next], ", "))
		}
	}
}

// Mermaid returns the service as a state diagram of its apps, each collapsed to one state, and of
// the links between them.
func (s *Service[S]) Mermaid() string {
	owner := map[Name]string{}
	for _, t := range s.tables {
		for name := range t.Rounds {
			owner[name] = t.Label
		}
	}

	var b strings.Builder
	b.WriteString("stateDiagram-v2\n")
	if len(s.tables) > 0 {
		fmt.Fprintf(&b, "    [*] --> %s\n", s.tables[0].Label)
	}
	for _, from := range slices.Sorted(maps.Keys(s.links)) {
		fmt.Fprintf(&b, "    %s --> %s: %s\n", owner[from], owner[s.links[from]], from.ClassName())
	}
	for _, t := range s.tables {
		for _, f := range t.finals() {
			if _, linked := s.links[f]; !linked {
				fmt.Fprintf(&b, "    %s --> [*]: %s\n", t.Label, f.ClassName())
			}
		}
	}
	return b.String()
}
