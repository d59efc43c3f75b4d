package explore

import (
	"fmt"
	"strings"

	"github.com/coppice-go/coppice/engines/rounds"
)

// Kind is a kind of mistake.
type Kind string

// The kinds.
const (
	// DeadEnd: the round is not final, and nothing that agents can say and no timeout ends it. The
	// start of a background app does not count as an end.
	DeadEnd Kind = "dead end"

	// NoExit: rounds follow one another for ever, and no continuation reaches an end of their app.
	// Apps without a final round are meant to go on for ever.
	NoExit Kind = "loop without an exit"

	// NoRest: rounds end in every block, also in empty ones, and come back to where they were. A
	// chain makes a block whenever the state has changed, so it would make blocks for ever.
	NoRest Kind = "loop without a timeout"

	// Panic: a function of the app panics.
	Panic Kind = "panic"

	// Differs: the same step, played twice, comes to two states. A function of the app reads a
	// clock or the order of a map, and two nodes would have two app hashes.
	Differs Kind = "another state when played again"
)

// Finding is one mistake with the shortest history that leads to it. It is an error.
type Finding struct {
	Kind    Kind        `json:"kind"`
	App     string      `json:"app"`
	Round   rounds.Name `json:"round,omitempty"` // empty for a background round, whose label App is
	Problem string      `json:"problem"`
	Agents  int         `json:"agents"`
	History []string    `json:"history"` // a line for each block
}

func (f Finding) Error() string {
	var b strings.Builder
	b.WriteString(f.App)
	if f.Round != "" {
		fmt.Fprintf(&b, ", round %s", f.Round)
	}
	fmt.Fprintf(&b, ": %s: %s; with agents %d, after", f.Kind, f.Problem, f.Agents)

	if len(f.History) == 0 {
		b.WriteString(" nothing")
	}
	for _, line := range f.History {
		b.WriteString("\n  " + line)
	}
	return b.String()
}
