package otpdiff

import (
	"strconv"
	"strings"
	"time"

	"github.com/coppice-go/coppice/supervisor"
)

// History is a tree and what happens to it. It is data, so that it can be played twice, made
// smaller and printed.
type History struct {
	Root  Node
	Steps []Step
}

// Node is a child. It is a supervisor if Sup is not nil, and a worker otherwise.
type Node struct {
	ID          string
	Restart     supervisor.Restart
	Significant bool
	// Shutdown is the shutdown time: 0 for the default, supervisor.Brutal, supervisor.Infinity or a
	// time.
	Shutdown time.Duration
	// Starts are the outcomes of the first starts of this path, over all its incarnations. Later
	// starts succeed.
	Starts []Outcome
	// OnStop is how a worker reacts to a stop.
	OnStop OnStop
	Sup    *Sup
}

// Sup has the further properties of a supervisor. The only child of a Dynamic one is its template.
type Sup struct {
	Dynamic  bool
	Strategy supervisor.Strategy
	Max      int
	Period   int // seconds
	Auto     supervisor.AutoShutdown
	Children []Node
}

// Outcome is what a start does.
type Outcome struct {
	// Hang makes the start wait at a gate first.
	Hang bool
	// Kind is an atom: ok, info (ok, with start info), ignore, boom (an error), panic, or garbage
	// (neither a service nor an error).
	Kind string
}

// OnStop is how a worker reacts to a stop. It ends with shutdown (obey), normal, crash or
// {shutdown, detail} (detail), or it first waits at a gate (slow), or it never ends (deaf).
type OnStop string

// Op is what a step does.
type Op string

// The operations. Path is the child that dies, and for all other operations the supervisor.
const (
	Die Op = "die" // a worker ends by itself, with Reason
	// Hold keeps the supervisor busy until the next Release, by a start_child whose start waits at
	// a gate and then answers ignore.
	Hold      Op = "hold"
	Release   Op = "release"         // opens all gates
	Start     Op = "start_child"     // of Child
	Instance  Op = "start_instance"  // start_child of a dynamic supervisor, with Child for an argument
	Terminate Op = "terminate_child" // of ID, as are the next three
	Restart   Op = "restart_child"
	Delete    Op = "delete_child"
	GetSpec   Op = "get_childspec"
	Finish    Op = "finish" // a supervisor below the root is ended from outside, with normal or killed
	Stop      Op = "stop"   // the root's parent ends it, with Reason
	Sleep     Op = "sleep"  // of Millis
)

// Step is one step of a history.
type Step struct {
	Op     Op
	Path   string
	ID     string
	Reason string
	// By is the path of the running worker that makes a call. If it is empty, a process outside of
	// the tree makes the call.
	By     string
	Child  *Node
	Millis int
}

func (n Node) term() term {
	starts := list{}
	for _, o := range n.Starts {
		if o.Hang {
			starts = append(starts, tuple{atom("hang"), atom(o.Kind)})
		} else {
			starts = append(starts, atom(o.Kind))
		}
	}

	var sup term = atom("none")

	if s := n.Sup; s != nil {
		children := list{}
		for _, c := range s.Children {
			children = append(children, c.term())
		}

		strategy, place := s.Strategy.String(), "below"
		if s.Dynamic {
			strategy = "simple_one_for_one"
		}
		if n.ID == rootID {
			place = "root"
		}

		sup = tuple{atom("sup"), atom(strategy), s.Max, s.Period, atom(s.Auto.String()), atom(place), children}
	}

	var shutdown term

	switch n.Shutdown {
	case 0:
		shutdown = atom("default")
	case supervisor.Brutal:
		shutdown = atom("brutal_kill")
	case supervisor.Infinity:
		shutdown = atom("infinity")
	default:
		shutdown = int(n.Shutdown.Milliseconds())
	}

	obey := n.OnStop
	if obey == "" {
		obey = "obey"
	}
	return tuple{atom("node"), n.ID, atom(n.Restart.String()), atom(strconv.FormatBool(n.Significant)), shutdown,
		starts, atom(obey), sup}
}

func (s Step) term() term {
	var arg term = s.ID
	switch s.Op {
	case Die, Finish, Stop:
		arg = atom(s.Reason)
		if s.Reason == "detail" {
			arg = tuple{atom("shutdown"), atom("detail")}
		}

	case Start, Instance:
		arg = s.Child.term()

	case Sleep:
		arg = s.Millis

	case Hold, Release:
		arg = atom("none")
	}

	return tuple{atom(s.Op), s.Path, arg, s.By}
}

// stopsCaller reports whether the step is a terminate_child, by a child, of the child itself or of
// a supervisor above it. In OTP the two wait for one another until the child is killed.
func (s Step) stopsCaller() bool {
	return s.Op == Terminate && s.By != "" && within(s.By, join(s.Path, s.ID))
}

// within reports whether path is at, or below it.
func within(path, at string) bool { return path == at || at == "" || strings.HasPrefix(path, at+"/") }

func (h History) term() term {
	steps := list{}
	for _, s := range h.Steps {
		steps = append(steps, s.term())
	}
	return tuple{atom("history"), h.Root.term(), steps}
}

// rootID is the name of the root, whose path is "".
const rootID = "root"

func join(path, id string) string {
	if path == "" {
		return id
	}
	return path + "/" + id
}

func parentOf(path string) string {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i]
	}
	return ""
}

// outcome returns the outcome of the k-th start of the node, counted from 1.
func (n *Node) outcome(k int) Outcome {
	if k <= len(n.Starts) {
		return n.Starts[k-1]
	}
	return Outcome{Kind: "ok"}
}
