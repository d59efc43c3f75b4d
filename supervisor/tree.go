package supervisor

import (
	"fmt"
	"strings"
	"time"
)

// Kind is what a child is.
type Kind uint8

const (
	// Worker is a child that is not known to supervise anything.
	Worker Kind = iota
	// SupervisorKind is a *Supervisor, or a type that embeds one.
	SupervisorKind
	// DynamicKind is a *Dynamic.
	DynamicKind
)

func (k Kind) String() string { return name("Kind", int(k), "worker", "supervisor", "dynamic") }

// State is the state of a child in its life (OTP rule 19). It is finer than OTP's, which has no
// words for the states that block its supervisor.
type State uint8

const (
	// NotRunning: specified, without an incarnation.
	NotRunning State = iota
	// Starting: started, not acknowledged.
	Starting
	// Running: acknowledged.
	Running
	// Restarting: between two attempts.
	Restarting
	// Stopping: told to end. In a Tree it does not matter what told it: its supervisor, Kill, a
	// Link, or a goroutine of its own that failed.
	Stopping
)

func (s State) String() string {
	return name("State", int(s), "not running", "starting", "running", "restarting", "stopping")
}

// Tree is a snapshot of a supervisor or a child, and of everything below it.
type Tree struct {
	// ID is the child's ID, the root's Name for a root.
	ID string
	// Path is the full path, "" for the root.
	Path        string
	Kind        Kind
	State       State
	Incarnation uint64
	// Since is when the incarnation began. It is zero if there is none.
	Since time.Time
	// Restart, Significant and Shutdown are taken from the child's specification.
	Restart     Restart
	Significant bool
	Shutdown    time.Duration
	// Restarts counts the ends, of the child or of another of its group, that led to a restart of
	// it in this run of its supervisor. LastExit is the child's last exit, nil if there is none.
	Restarts uint64
	LastExit *Exit
	// Strategy, Intensity, AutoShutdown and InWindow (the attempts within the period) are set for a
	// supervisor only.
	Strategy     Strategy
	Intensity    Intensity
	AutoShutdown AutoShutdown
	InWindow     int
	// Busy: the supervisor is serving a message or stopping, or a message waits for it: an exit, a
	// call or a retry.
	Busy bool
	// Children are in start order. A Dynamic lists at most TreeInstances of its Instances, of which
	// InstancesRunning are Running.
	Children                    []Tree
	Instances, InstancesRunning int
}

// TreeInstances is the number of instances of a Dynamic that a Tree lists.
const TreeInstances = 256

// Find returns the node at a path relative to this one, "" being itself.
func (t Tree) Find(path string) (Tree, bool) {
	if path == "" {
		return t, true
	}

	id, rest, _ := strings.Cut(path, "/")

	for _, c := range t.Children {
		if c.ID == id {
			return c.Find(rest)
		}
	}

	return Tree{}, false
}

// String draws the tree.
func (t Tree) String() string {
	var b strings.Builder
	t.draw(&b, "", "")
	return b.String()
}

func (t Tree) draw(b *strings.Builder, first, rest string) {
	fmt.Fprintf(b, "%s%s  %v", first, t.ID, t.State)
	if t.Kind == SupervisorKind && t.Intensity.Period > 0 {
		fmt.Fprintf(b, "  %v %d in %v", t.Strategy, t.Intensity.Max, t.Intensity.Period)
	}
	if t.Kind == DynamicKind {
		fmt.Fprintf(b, "  dynamic, %d instances", t.Instances)
	}
	if t.Restarts > 0 {
		fmt.Fprintf(b, "  restarts %d", t.Restarts)
	}

	b.WriteByte('\n')

	for i, c := range t.Children {
		if i == len(t.Children)-1 {
			c.draw(b, rest+"└── ", rest+"    ")
		} else {
			c.draw(b, rest+"├── ", rest+"│   ")
		}
	}
}

// ChildInfo is one entry of WhichChildren (OTP rule 28).
type ChildInfo struct {
	ID    string
	Kind  Kind
	State State
	// Ref names the incarnation. It is zero if there is none.
	Ref Ref
}

// Counts is returned by CountChildren (OTP rule 30). Active counts the children that are alive.
// Supervisors and Workers count all children by kind, dead or alive. A child that has never been
// started counts as its declared kind.
type Counts struct{ Specs, Active, Supervisors, Workers int }

// Orphan is an incarnation that has not ended within its shutdown time and still runs.
type Orphan struct {
	Path        string
	Incarnation uint64
	// Since is when it was declared an orphan.
	Since time.Time
	// Goroutines counts the goroutines of the incarnation that still run, including those that it
	// started with plain go statements. Stack has their stacks.
	Goroutines int
	Stack      string
	// Brutal: the supervisor did not wait for it at all, so nothing is known to be wrong with it.
	Brutal bool
}

// seen returns the state s as a snapshot shows it. A child that its supervisor lists as running may
// have been told to end. By OTP rule 28 it is listed as running until it has ended.
func (inc *incarnation) seen(s State) State {
	if s == Running && inc.life.Err() != nil {
		return Stopping
	}
	return s
}

// Walk calls f for the node and all nodes below it, parents first.
func (t Tree) Walk(f func(Tree)) {
	f(t)
	for _, c := range t.Children {
		c.Walk(f)
	}
}

// Settled reports whether nothing is under way: every supervisor runs and waits, and no child is
// starting, restarting or stopping.
func (t Tree) Settled() bool {
	ok := t.State == Running
	t.Walk(func(n Tree) {
		ok = ok && !n.Busy && (n.State == Running || n.State == NotRunning) && n.InstancesRunning == n.Instances
	})
	return ok
}
