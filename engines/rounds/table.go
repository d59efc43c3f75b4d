package rounds

import (
	"maps"
	"slices"
)

// Row is one round of a table and what follows it.
type Row[S any] struct {
	Round Round[S]
	On    On
	About string // one sentence for people
}

// Rows are the rounds of a table.
type Rows[S any] map[Name]Row[S]

// Table is an app: rounds over a state S, which encodes to JSON and back.
type Table[S any] struct {
	Label    string // for instance OracleAbciApp; payloads carry it
	Start    Name
	Also     []Name // further rounds in which the app may begin, for Compose
	Timeouts Timeouts

	// Keep returns what of the state outlives a period. nil keeps nothing.
	Keep func(S) S

	Rounds Rows[S]

	// period is set for the app that ends periods.
	period *Period
}

// names returns the table's rounds, sorted.
func (t Table[S]) names() []Name { return slices.Sorted(maps.Keys(t.Rounds)) }

// starts returns the rounds in which the app may begin.
func (t Table[S]) starts() []Name {
	all := append([]Name{t.Start}, t.Also...)
	slices.Sort(all)
	return slices.Compact(all)
}

// finals returns the final rounds, sorted.
func (t Table[S]) finals() []Name {
	var out []Name
	for _, n := range t.names() {
		if inner, _ := kind(t.Rounds[n].Round); isFinal(inner) {
			out = append(out, n)
		}
	}
	return out
}
