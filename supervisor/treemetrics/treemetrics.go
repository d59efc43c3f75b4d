// Package treemetrics counts what happens in a supervision tree: an observer without dependencies,
// whose snapshot any exporter can read.
//
// Counters are made of events and only grow, also over restarts of a supervisor. Gauges, which are
// what is now, come from the tree itself, so that they are right whatever an observer missed:
//
//	m := &treemetrics.Metrics{}
//	s, err := supervisor.New(supervisor.Spec{Observers: []supervisor.Observer{m}, …})
//	…
//	figures := m.Snapshot(s.Tree())
//
// Figures are by path. Instances of a dynamic supervisor come and go, so they share one path, that
// of their supervisor and [Instances]: "pool/workers/*". A tree that invents IDs without end
// elsewhere is bounded by [MaxPaths].
package treemetrics

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coppice-go/coppice/supervisor"
)

const (
	// Instances stands for the ID of every instance of a dynamic supervisor.
	Instances = "*"
	// MaxPaths is how many paths have figures of their own. What happens at further ones is added
	// to the path Other.
	MaxPaths = 4096
	// Other is the path of all that are beyond MaxPaths.
	Other = "(other)"
)

// Metrics is an observer that counts. The zero value is ready. It is for one root, from its start:
// what it did not see, it did not count. Safe for concurrent use.
type Metrics struct {
	mu       sync.Mutex
	root     string
	counters map[string]*Counters
	dynamic  map[string]bool
	total    Counters
	lost     uint64
	failed   uint64
}

// Counters count events since the Metrics began. Each is of one child, or of one supervisor, by
// path; the paths' own, without those below.
type Counters struct {
	// Starts were acknowledged, StartFailures failed (attempts in restarts included), Ignored
	// answered ErrIgnore. Starts of instances of a dynamic supervisor are only known if it is
	// Verbose.
	Starts, StartFailures, Ignored uint64
	// Restarts counts attempts as the supervisor's limit does: for a group, only at the child that
	// failed.
	Restarts uint64
	// Exits are ends that the child came to by itself, by class; of instances, without Verbose,
	// only those that are reported (OTP rule 36).
	Exits ExitCounters
	// Stops are ends that the supervisor asked for, ShutdownErrors those among them that were not
	// clean (OTP rule 58).
	Stops, ShutdownErrors uint64
	// Orphans did not end within their shutdown time; OrphansEnded ended later.
	Orphans, OrphansEnded uint64
	// Kills are calls of Kill, Faults those of Inject that were taken.
	Kills, Faults uint64
	// GroupRestarts, GiveUps, AutoShutdowns and Runs (starts of the whole supervisor) are of a
	// supervisor, at its own path.
	GroupRestarts, GiveUps, AutoShutdowns, Runs uint64
}

// ExitCounters sort exits: by class, and of the abnormal ones, which were panics, Goexits, kills
// and orphans.
type ExitCounters struct {
	Normal, Shutdown, Abnormal           uint64
	Panicked, Goexited, Killed, Orphaned uint64
}

// Figures are those of one path.
type Figures struct {
	// Path is as in events: "" is the root.
	Path string
	Counters
	// Gauge is what is now; nil for a path that is not in any tree given to Snapshot, of a child
	// that is gone for instance.
	Gauge *Gauge
}

// Gauge is the present state of one path. Those of the instances of a dynamic supervisor are added
// up.
type Gauge struct {
	Kind supervisor.Kind
	// Specified is 1, or how many instances there are; of them are Running, and Restarting, that
	// is, between two attempts.
	Specified, Running, Restarting int
	// Since is when the incarnation began, zero without one, and of instances.
	Since time.Time

	// What follows is of a supervisor. Children are specified, ChildrenRunning run.
	Children, ChildrenRunning int
	// InWindow attempts are within the period of the limit, of Max that it bears. At one more the
	// supervisor gives up.
	InWindow, Max int
	Period        time.Duration
}

// WindowUse is how much of the limit is used up: 0 is nothing, 1 means that the next attempt is one
// too many, as it always is with a Max of 0. What is no supervisor that runs uses nothing.
func (g *Gauge) WindowUse() float64 {
	switch {
	case g.Period == 0:
		return 0
	case g.Max == 0:
		return 1
	}
	return min(1, float64(g.InWindow)/float64(g.Max))
}

// Snapshot is the state of a Metrics at one moment. It is the caller's.
type Snapshot struct {
	// Root is the root's name, "" before the first event.
	Root string
	// Paths are sorted by path, the root first.
	Paths []Figures
	// Total is the sum of all Counters, orphans that still run are OrphansNow.
	Total      Counters
	OrphansNow uint64
	// EventsLost were never seen because this observer was slow; then counters are too low.
	// ObserversFailed panicked and were detached.
	EventsLost, ObserversFailed uint64
}

// Observe counts one event.
func (m *Metrics) Observe(e supervisor.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()

	h := e.Head()
	m.root = h.Root

	if s, ok := e.(supervisor.SupervisorStarted); ok && s.Kind == supervisor.DynamicKind {
		if m.dynamic == nil {
			m.dynamic = map[string]bool{}
		}
		m.dynamic[m.shared(h.Path)] = true
	}

	switch e := e.(type) {
	case supervisor.EventsDropped:
		m.lost += e.Count
		return
	case supervisor.ObserverFailed:
		m.failed++
		return
	}

	m.of(m.shared(h.Path)).count(e)
	m.total.count(e)
}

// shared is the path with the IDs of instances left out.
func (m *Metrics) shared(path string) string {
	if len(m.dynamic) == 0 || path == "" {
		return path
	}

	ids := strings.Split(path, "/")
	for i := range ids {
		if m.dynamic[strings.Join(ids[:i], "/")] {
			ids[i] = Instances
		}
	}

	return strings.Join(ids, "/")
}

func (m *Metrics) of(path string) *Counters {
	if c := m.counters[path]; c != nil {
		return c
	}
	if m.counters == nil {
		m.counters = map[string]*Counters{}
	}

	if len(m.counters) >= MaxPaths {
		path = Other
		if c := m.counters[path]; c != nil {
			return c
		}
	}

	c := &Counters{}
	m.counters[path] = c

	return c
}

func (c *Counters) count(e supervisor.Event) {
	switch e := e.(type) {
	case supervisor.SupervisorStarted:
		c.Runs++

	case supervisor.ChildStarted:
		c.Starts++

	case supervisor.ChildStartFailed:
		c.StartFailures++

	case supervisor.ChildIgnored:
		c.Ignored++

	case supervisor.ChildExited:
		c.Exits.count(e.Exit)

	case supervisor.ChildStopped:
		c.Stops++

	case supervisor.ShutdownError:
		c.ShutdownErrors += uint64(e.Count)

	case supervisor.RestartScheduled:
		c.Restarts++

	case supervisor.GroupRestart:
		c.GroupRestarts++

	case supervisor.GaveUp:
		c.GiveUps++

	case supervisor.AutoShutdownTriggered:
		c.AutoShutdowns++

	case supervisor.ChildOrphaned:
		c.Orphans++

	case supervisor.OrphanEnded:
		c.OrphansEnded++

	case supervisor.Killed:
		c.Kills++

	case supervisor.FaultInjected:
		c.Faults++
	}
}

func (c *ExitCounters) count(x supervisor.Exit) {
	switch x.Class {
	case supervisor.Normal:
		c.Normal++
	case supervisor.Shutdown:
		c.Shutdown++
	default:
		c.Abnormal++
	}

	if x.Panic != nil {
		c.Panicked++
	}
	if x.Goexit {
		c.Goexited++
	}
	if x.Killed {
		c.Killed++
	}
	if x.Orphaned {
		c.Orphaned++
	}
}

// Snapshot gives the figures, with gauges for the paths of the trees given. It copies, and waits
// for nothing.
func (m *Metrics) Snapshot(trees ...supervisor.Tree) Snapshot {
	m.mu.Lock()
	s := Snapshot{Root: m.root, Total: m.total,
		OrphansNow: m.total.Orphans - min(m.total.Orphans, m.total.OrphansEnded), EventsLost: m.lost,
		ObserversFailed: m.failed}
	counters := make(map[string]Counters, len(m.counters))
	for path, c := range m.counters {
		counters[path] = *c
	}

	m.mu.Unlock()

	figures := make(map[string]*Figures, len(counters))
	for path, c := range counters {
		figures[path] = &Figures{Path: path, Counters: c}
	}

	for _, t := range trees {
		gauge(figures, t, t.Path)
	}

	for _, path := range slices.Sorted(maps.Keys(figures)) {
		s.Paths = append(s.Paths, *figures[path])
	}

	return s
}

// gauge enters a node and what is below it; path is the node's, with instances shared.
func gauge(figures map[string]*Figures, t supervisor.Tree, path string) {
	g := gaugeAt(figures, path)
	g.Kind = max(g.Kind, t.Kind)

	if g.Specified++; g.Specified == 1 {
		g.Since = t.Since
	} else {
		g.Since = time.Time{}
	}

	switch t.State {
	case supervisor.Running:
		g.Running++
	case supervisor.Restarting:
		g.Restarting++
	}

	if t.Kind == supervisor.Worker {
		return
	}

	g.InWindow, g.Max, g.Period = max(g.InWindow, t.InWindow), t.Intensity.Max, t.Intensity.Period

	for _, c := range t.Children {
		g.Children++
		if c.State == supervisor.Running {
			g.ChildrenRunning++
		}

		id := c.ID
		if t.Kind == supervisor.DynamicKind {
			id = Instances
		}
		if path != "" {
			id = path + "/" + id
		}

		gauge(figures, c, id)
	}

	if rest := t.Instances - len(t.Children); rest > 0 { // those that the tree counts and does not list
		all := gaugeAt(figures, strings.TrimPrefix(path+"/"+Instances, "/"))
		running := t.InstancesRunning - g.ChildrenRunning
		g.Children, g.ChildrenRunning = t.Instances, t.InstancesRunning
		all.Specified += rest
		all.Running += running
	}
}

func gaugeAt(figures map[string]*Figures, path string) *Gauge {
	f := figures[path]
	if f == nil {
		f = &Figures{Path: path}
		figures[path] = f
	}

	if f.Gauge == nil {
		f.Gauge = &Gauge{}
	}
	return f.Gauge
}
