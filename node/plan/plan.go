package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/supervisor"
)

// Profile chooses the limits of the tree.
type Profile string

const (
	// Default lets the transaction core restart within its own limit.
	Default Profile = "default"

	// Strict allows no restart within the transaction core: any failure there restarts the node.
	Strict Profile = "strict"

	// Chaos raises every limit that allows restarts at all, and shortens the shutdown times. It is
	// for test runs that kill children all the time.
	Chaos Profile = "chaos"
)

// Profiles lists all profiles.
var Profiles = []Profile{Default, Strict, Chaos}

// ParseProfile reads a profile's name.
func ParseProfile(s string) (Profile, error) {
	if p := Profile(s); slices.Contains(Profiles, p) {
		return p, nil
	}
	return "", fmt.Errorf("profile %q: want one of %v", s, Profiles)
}

// Place is one place of the plan. It says how a child is supervised and, if the child is a
// supervisor, how it supervises its own children.
type Place struct {
	ID          string
	Restart     supervisor.Restart
	Significant bool
	Shutdown    time.Duration // of a worker; 0 is the supervisor package's default
	Orphan      supervisor.OrphanPolicy

	Dynamic      bool // the children of this supervisor are started at run time
	Strategy     supervisor.Strategy
	Intensity    supervisor.Intensity
	AutoShutdown supervisor.AutoShutdown
	Children     []Place

	Note string // what the child does, for people
}

// Supervises reports whether the place is a supervisor.
func (p Place) Supervises() bool { return p.Dynamic || p.Intensity.Period > 0 }

// Find returns the place at a path below p. It panics if there is none.
func (p Place) Find(path string) Place {
	for id := range strings.SplitSeq(path, "/") {
		i := slices.IndexFunc(p.Children, func(c Place) bool { return c.ID == id })
		if i < 0 {
			panic(fmt.Sprintf("plan: no %q in %q", id, path)) // a mistake in the program
		}
		p = p.Children[i]
	}
	return p
}

// Names and paths of the places that other packages name.
const (
	Transactions = "transactions"
	StateSync    = "statesync" // of a node whose consensus carries snapshots
	Streams      = "streams"   // of a node that has sinks

	PathPubsub       = "coppice/pubsub"
	PathNode         = "coppice/node"
	PathTransactions = PathNode + "/" + Transactions
	PathMempool      = PathTransactions + "/mempool"
	PathEngines      = PathNode + "/engines"
	PathConsensus    = PathEngines + "/consensus"
)

// Values of Intensity.Max, the number of restarts that a supervisor allows within its period.
const (
	none     = 0      // each failure goes to the supervisor above; the profile chaos does not raise it
	chaosMax = 10_000 // in the profile chaos, each limit that is not none
)

// Of returns the tree of a node whose consensus has the given traits. extra names the user's
// engines.
func Of(profile Profile, t consensus.Traits, extra ...string) Place {
	ids := shippedEngines()
	if t.StateSync {
		ids = append(ids, StateSync)
	}
	return newPlan(profile, append(ids, extra...)).withConsensus(profile, t.Part)
}

// shippedEngines returns the names of the engines that every node has, in start order.
func shippedEngines() []string { return []string{"consensus", "api", "retention"} }

// newPlan returns the tree with the given engines under "engines", in start order.
func newPlan(profile Profile, engines []string) Place {
	limit := func(max int, seconds int) supervisor.Intensity {
		if profile == Chaos && max != none {
			max = chaosMax
		}
		return supervisor.Intensity{Max: max, Period: time.Duration(seconds) * time.Second}
	}

	core := 3
	if profile == Strict {
		core = none
	}

	shutdown := time.Duration(0)
	if profile == Chaos {
		shutdown = time.Second
	}

	worker := func(id, note string) Place { return Place{ID: id, Shutdown: shutdown, Note: note} }

	units := make([]Place, len(engines))
	for i, id := range engines {
		units[i] = worker(id, "")
		units[i].Orphan = supervisor.Abandon
	}

	return Place{
		ID: "host", Strategy: supervisor.OneForOne, Intensity: limit(3, 10), AutoShutdown: supervisor.AnySignificant,
		Note: "the process",
		Children: []Place{
			worker("admin", "owns the listener; tree, kill, status and health always answer"),
			{
				ID: "coppice", Restart: supervisor.Temporary, Significant: true,
				Strategy: supervisor.OneForAll, Intensity: limit(3, 60), Note: "its end is the process's end",
				Children: []Place{
					{
						ID: "pubsub", Strategy: supervisor.OneForAll, Intensity: limit(3, 10),
						Children: []Place{
							worker("registry", "starts filter agents; knows who subscribed"),
							worker("broker", "top-level event broker"),
							{ID: "filters", Restart: supervisor.Permanent, Dynamic: true, Intensity: limit(none, 5),
								Note: "transient agents; one that dies abnormally takes pubsub down"},
						},
					},
					{
						ID: "node", Strategy: supervisor.OneForAll, Intensity: limit(5, 60),
						Children: []Place{
							worker("router", "addresses of all engines; if it fails, the node restarts"),
							worker("logger", "owns the event log; if it fails, the node restarts"),
							{
								ID: Transactions, Strategy: supervisor.OneForAll, Intensity: limit(core, 10),
								Children: []Place{
									worker("storage", "the state"),
									worker("ordering", "after each restart replays the event log"),
									{
										ID: "mempool", Strategy: supervisor.OneForAll, Intensity: limit(none, 5),
										Note: "any failure inside escalates to transactions",
										Children: []Place{
											worker("pool", "accepted transactions; watches its workers"),
											{ID: "workers", Dynamic: true, Intensity: limit(none, 5),
												Note: "temporary workers, one per transaction"},
										},
									},
								},
							},
							{ID: "engines", Strategy: supervisor.OneForOne, Intensity: limit(10, 60), Children: units},
						},
					},
				},
			},
		},
	}
}

// WithStreams returns p with the engine that delivers blocks to sinks. It is the first engine, so
// that consensus, whose blocks wait for sinks, stops before it.
func (p Place) WithStreams(profile Profile) Place {
	limit := supervisor.Intensity{Max: 10, Period: time.Minute}
	if profile == Chaos {
		limit.Max = chaosMax
	}

	streams := Place{
		ID: Streams, Strategy: supervisor.RestForOne, Intensity: limit, Note: "delivers blocks to sinks",
		Children: []Place{
			{ID: "manager", Note: "starts the slots, and writes their files"},
			{ID: "slots", Dynamic: true, Intensity: limit, Note: "a supervisor for each sink"},
		},
	}

	at := p.Find(PathEngines)
	at.Children = append([]Place{streams}, at.Children...)

	return p.replace(PathEngines, at)
}

// withConsensus returns p with the part of the tree that the consensus brings.
func (p Place) withConsensus(profile Profile, part consensus.Part) Place {
	at := p.Find(PathConsensus)
	at.Note = part.Note
	if len(part.Children) == 0 {
		return p.replace(PathConsensus, at)
	}

	at.Shutdown, at.Strategy, at.Intensity = 0, part.Strategy, part.Intensity
	if profile == Chaos && at.Intensity.Max != none {
		at.Intensity.Max = chaosMax
	}

	for _, c := range part.Children {
		at.Children = append(at.Children, Place{ID: c.ID, Note: c.Note})
	}

	return p.replace(PathConsensus, at)
}

// replace returns a copy of p that has the place by at the given path below p.
func (p Place) replace(path string, by Place) Place {
	id, rest, below := strings.Cut(path, "/")
	p.Children = slices.Clone(p.Children)
	for i, c := range p.Children {
		switch {
		case c.ID != id:
		case below:
			p.Children[i] = c.replace(rest, by)
		default:
			p.Children[i] = by
		}
	}

	return p
}

// Child returns the specification of the worker at this place.
func (p Place) Child(start supervisor.StartFunc) supervisor.Child {
	return supervisor.Child{
		ID: p.ID, Start: start, Restart: p.Restart, Significant: p.Significant, Shutdown: p.Shutdown, Orphan: p.Orphan,
	}
}

// Nested returns the specification of the supervisor at this place, as a child of another. The
// supervisor calls build at the start of each of its runs.
func (p Place) Nested(build func() ([]supervisor.Child, error)) supervisor.Child {
	return p.Child(supervisor.Nested(p.Spec(build)))
}

// Spec returns the specification of the supervisor at this place. The supervisor calls build at the
// start of each of its runs.
func (p Place) Spec(build func() ([]supervisor.Child, error)) supervisor.Spec {
	return supervisor.Spec{
		Name: p.ID, Strategy: p.Strategy, Intensity: p.Intensity, AutoShutdown: p.AutoShutdown,
		Build: func(context.Context) ([]supervisor.Child, error) { return build() },
	}
}

// noteColumn is the column at which the descriptions in a drawing begin.
const noteColumn = 28

// String draws the tree, one place a line.
func (p Place) String() string {
	var b strings.Builder
	p.draw(&b, "", "")
	return b.String()
}

// draw draws p and the places below it. first begins the line of p, and rest the lines below.
func (p Place) draw(b *strings.Builder, first, rest string) {
	head := first + p.ID
	b.WriteString(head)
	b.WriteString(strings.Repeat(" ", max(2, noteColumn-len([]rune(head)))))
	b.WriteString(p.describe())
	b.WriteByte('\n')

	for i, c := range p.Children {
		if i == len(p.Children)-1 {
			c.draw(b, rest+"└── ", rest+"    ")
		} else {
			c.draw(b, rest+"├── ", rest+"│   ")
		}
	}
}

// describe returns the strategy, limits and note of p in one line.
func (p Place) describe() string {
	var parts []string
	switch {
	case p.Dynamic:
		parts = append(parts, fmt.Sprintf("dynamic, %s", limitText(p.Intensity)))
	case p.Supervises():
		parts = append(parts, fmt.Sprintf("%v, %s", p.Strategy, limitText(p.Intensity)))
	}

	if p.AutoShutdown != supervisor.Never {
		parts = append(parts, fmt.Sprintf("auto_shutdown %v", p.AutoShutdown))
	}
	if p.ID != "host" {
		parts = append(parts, p.Restart.String())
	}
	if p.Significant {
		parts = append(parts, "significant")
	}
	if p.Orphan != supervisor.Escalate {
		parts = append(parts, fmt.Sprintf("orphans: %v", p.Orphan))
	}

	text := strings.Join(parts, ", ")
	if p.Note != "" {
		text += ": " + p.Note
	}

	return text
}

// limitText returns a limit of restarts in words.
func limitText(i supervisor.Intensity) string {
	if i.Max == none {
		return "max_restarts 0"
	}
	return fmt.Sprintf("%d in %d s", i.Max, int(i.Period/time.Second))
}
