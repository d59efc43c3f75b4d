// Package treemetrics counts the events of a supervision tree. It is an observer without
// dependencies, and any exporter can read its snapshots.
//
// Counters count events and never decrease, also over restarts of a supervisor. Gauges are the
// present state. They come from the tree itself, so they are right even if an observer missed
// events:
//
//	m := &treemetrics.Metrics{}
//	s, err := supervisor.New(supervisor.Spec{Observers: []supervisor.Observer{m}, …})
//	…
//	figures := m.Snapshot(s.Tree())
//
// There are figures for each path. Instances of a dynamic supervisor come and go, so they share one
// path, which is the path of their supervisor and [Instances]: "pool/workers/*". If a tree keeps
// adding new IDs elsewhere, [MaxPaths] bounds the number of paths.
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
	// MaxPaths is how many paths have figures of their own. Events at further paths are counted at
	// the path Other.
	MaxPaths = 4096
	// Other is the path that stands for all paths beyond MaxPaths.
	Other = "(other)"
)

// Metrics is an observer that counts events. The zero value is ready to use. Add it to one root
// before that starts: it counts only the events that it sees. It is safe for concurrent use.
type Metrics struct {
	mu       sync.Mutex
	root     string
	counters map[string]*Counters
	dynamic  map[string]bool
	total    Counters
	lost     uint64
	failed   uint64
}

// Counters count the events of one path, which is a child or a supervisor, since the Metrics began.
// They do not include the paths below it.
type Counters struct {
	// Starts counts starts that were acknowledged, StartFailures those that failed (attempts in
	// restarts included), and Ignored those that returned ErrIgnore. Starts of instances are known
	// only if their dynamic supervisor is Verbose.
	Starts, StartFailures, Ignored uint64
	// Restarts counts restart attempts as the supervisor's limit does: the restart of a group
	// counts only at the child that failed.
	Restarts uint64
	// Exits counts, by class, the ends of the child that the supervisor did not ask for. Of
	// instances without Verbose, it counts only those that are reported (OTP rule 36).
	Exits ExitCounters
	// Stops counts ends that the supervisor asked for, and ShutdownErrors those among them that
	// were not clean (OTP rule 58).
	Stops, ShutdownErrors uint64
	// Orphans counts incarnations that did not end within their shutdown time, and OrphansEnded
	// those among them that ended later.
	Orphans, OrphansEnded uint64
	// Kills counts calls of Kill, and Faults the calls of Inject whose fault was taken.
	Kills, Faults uint64
	// GroupRestarts, GiveUps, AutoShutdowns and Runs (starts of the whole supervisor) count events
	// of a supervisor, at its own path.
	GroupRestarts, GiveUps, AutoShutdowns, Runs uint64
}

// ExitCounters count exits by class, and the abnormal ones also by cause: panics, Goexits, kills
// and orphans.
type ExitCounters struct {
	Normal, Shutdown, Abnormal           uint64
	Panicked, Goexited, Killed, Orphaned uint64
}

// Figures are the counters and the gauge of one path.
type Figures struct {
	// Path is the path as in events: "" is the root.
	Path string
	Counters
	// Gauge is the present state. It is nil if the path is in none of the trees given to Snapshot,
	// for instance because the child is gone.
	Gauge *Gauge
}

// Gauge is the present state of one path. The states of the instances of a dynamic supervisor are
// added up.
type Gauge struct {
	Kind supervisor.Kind
	// Specified is 1, or the number of instances. Running of them run, and Restarting of them are
	// between two attempts.
	Specified, Running, Restarting int
	// Since is when the incarnation began. It is zero if there is none, and for instances.
	Since time.Time

	// The following fields are for supervisors. Children children are specified, ChildrenRunning of
	// them run.
	Children, ChildrenRunning int
	// InWindow is how many attempts are within the Period of the limit. Max is how many the limit
	// allows: at one more the supervisor gives up.
	InWindow, Max int
	Period        time.Duration
}

// WindowUse returns the part of the limit that is used up, from 0 to 1. At 1, the next attempt is
// one too many, as it always is with a Max of 0. If the path is not that of a running supervisor,
// WindowUse returns 0.
func (g *Gauge) WindowUse() float64 {
	switch {
	case g.Period == 0:
		return 0
	case g.Max == 0:
		return 1
	}
	return min(1, float64(g.InWindow)/float64(g.Max))
}

// Snapshot is the state of a Metrics at one moment. It belongs to the caller.
type Snapshot struct {
	// Root is the root's name, "" before the first event.
	Root string
	// Paths is sorted by path, the root first.
	Paths []Figures
	// Total is the sum of all Counters. OrphansNow is how many orphans still run.
	Total      Counters
	OrphansNow uint64
	// EventsLost is how many events this observer missed because it was slow; the counters are then
	// too low. ObserversFailed is how many observers panicked and were detached.
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

// shared returns the path with Instances in place of each instance's ID.
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

// Snapshot returns the figures, with gauges for the paths in the given trees. It copies, and waits
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

// gauge adds a node, and the nodes below it, to figures. path is the shared path of the node.
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

	if rest := t.Instances - len(t.Children); rest > 0 { // instances that the tree counts but does not list
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
