package otpdiff

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/coppice-go/coppice/supervisor"
)

// never is a period, in seconds, that does not expire within any history.
const never = 3600

// maxNodes bounds the children of a whole tree, maxChildren those of one supervisor.
const (
	maxNodes    = 30
	maxChildren = 12
)

// deafFor is the shutdown time of the children that ignore their stop.
const deafFor = 10 * time.Millisecond

// generator generates one history.
type generator struct {
	*rand.Rand
	left  int // nodes that may still be generated
	named int
	sups  []place
	paths []string // of workers
}

// The window of a timed history expires. pause is longer than period and the second after it (rule
// 41). The steps between two pauses take less time than the period.
const (
	period = 2
	pause  = 3100 // ms
)

// generateTimed returns timed history i of a seed: bursts of ends and failed starts, with two
// pauses.
func generateTimed(seed, i uint64) History {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, i)), left: 6}
	h := History{Root: Node{ID: rootID, Sup: &Sup{Strategy: supervisor.Strategy(g.IntN(3)), Max: 1 + g.IntN(3),
		Period: period}}}

	for range 1 + g.IntN(3) {
		c := Node{ID: g.name(), Starts: g.starts(false)}
		for i := range c.Starts {
			c.Starts[i].Hang = false
			if i == 0 {
				c.Starts[i].Kind = "ok"
			}
		}
		h.Root.Sup.Children = append(h.Root.Sup.Children, c)
	}

	g.visit("", &h.Root)

	for burst := range 3 {
		if burst > 0 {
			h.Steps = append(h.Steps, Step{Op: Sleep, Millis: pause})
		}
		for range 1 + g.IntN(h.Root.Sup.Max+1) {
			h.Steps = append(h.Steps, g.die(g.paths[g.IntN(len(g.paths))]))
		}
	}

	h.Steps = append(h.Steps, Step{Op: Stop, Reason: "shutdown"})

	return h
}

// place is a supervisor of the tree, with the IDs of the children that it may have.
type place struct {
	path string
	node *Node
	ids  []string
}

// generate returns history i of a seed. Its window never expires.
func generate(seed, i uint64) History {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, i)), left: maxNodes}
	h := History{Root: Node{ID: rootID, Sup: g.sup(0)}}
	h.Root.Sup.Dynamic = false
	if g.chance(60) {
		h.Root.Sup.Max += 5 // more happens while the root lives
	}

	g.visit("", &h.Root)
	if g.chance(1) {
		h.Root.Starts = []Outcome{{Kind: "ignore"}}
	}

	for n := 3 + g.IntN(15); n > 0; n-- {
		h.Steps = append(h.Steps, g.steps()...)
	}

	h.Steps = append(h.Steps, Step{Op: Stop, Reason: g.one("shutdown", "shutdown", "normal", "crash")})

	return h
}

// chance reports true with a probability of percent.
func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

func (g *generator) one(of ...string) string { return of[g.IntN(len(of))] }

func (g *generator) sup(depth int) *Sup {
	s := &Sup{
		Strategy: supervisor.Strategy(g.IntN(3)), Max: []int{0, 1, 1, 2, 2, 3, 3, 4, 5, 20}[g.IntN(10)], Period: never,
		Dynamic: depth > 0 && g.chance(20),
	}

	if s.Dynamic { // OTP rule 4: no automatic shutdown
		t := g.node("t", 9, s.Auto)
		t.Sup, t.Starts, t.OnStop = nil, nil, ""
		s.Strategy, s.Children = supervisor.OneForOne, []Node{t}
		return s
	}

	if g.chance(35) {
		s.Auto = supervisor.AutoShutdown(1 + g.IntN(2))
	}

	n := g.IntN(5)
	if depth == 0 {
		n++
	}
	if g.chance(10) {
		n = g.IntN(maxChildren + 1)
	}

	for ; n > 0 && g.left > 0; n-- {
		s.Children = append(s.Children, g.node(g.name(), depth+1, s.Auto))
	}

	return s
}

// name returns the next of a, b, …, each once in a history.
func (g *generator) name() string {
	g.named++
	return fmt.Sprintf("%c%s", 'a'+(g.named-1)%26, map[bool]string{true: fmt.Sprint((g.named - 1) / 26)}[g.named > 26])
}

func (g *generator) node(id string, depth int, auto supervisor.AutoShutdown) Node {
	g.left--
	n := Node{ID: id, Restart: []supervisor.Restart{0, 0, 1, 1, 2}[g.IntN(5)]}
	if n.Restart != supervisor.Permanent && auto != supervisor.Never {
		n.Significant = g.chance(50)
	}
	if depth < 3 && g.chance([]int{0, 40, 30}[depth]) {
		n.Sup = g.sup(depth)
	}

	n.Starts = g.starts(n.Sup != nil && n.Sup.Dynamic)
	if n.Sup != nil {
		return n // its shutdown time is infinity: rules 60 and 64
	}

	switch g.IntN(6) {
	case 0:
		n.Shutdown = supervisor.Brutal
	case 1:
		n.Shutdown = supervisor.Infinity
	}

	if n.Shutdown != supervisor.Brutal && g.chance(30) {
		n.OnStop = OnStop(g.one("normal", "crash", "detail", "slow", "slow"))
	}
	if g.chance(1) {
		n.Shutdown, n.OnStop = deafFor, "deaf"
	}

	return n
}

// starts returns the outcomes of the first few starts. The first one does not hang, so that a tree
// comes up.
func (g *generator) starts(dynamic bool) []Outcome {
	if g.chance(60) {
		return nil
	}

	out := []Outcome{{Kind: "ok"}}

	switch n := g.IntN(100); {
	case n < 6:
		out[0].Kind = "ignore"
	case n < 8:
		out[0].Kind = g.one("boom", "panic", "garbage")
	}

	for n := g.IntN(6); n > 0; n-- {
		out = append(out, g.outcome(dynamic))
	}

	return out
}

func (g *generator) outcome(dynamic bool) Outcome {
	o := Outcome{Kind: g.one("ok", "ok", "ok", "ok", "info", "boom", "boom", "boom", "boom", "ignore",
		"panic", "garbage")}
	if !dynamic { // rules 71, 73
		o.Hang = g.chance(6)
	}
	return o
}

// visit notes the paths that steps can name.
func (g *generator) visit(path string, n *Node) {
	if n.Sup == nil {
		g.paths = append(g.paths, path)
		return
	}

	p := place{path: path, node: n}

	if !n.Sup.Dynamic {
		for i := range n.Sup.Children {
			c := &n.Sup.Children[i]
			p.ids = append(p.ids, c.ID)
			g.visit(join(path, c.ID), c)
		}
	}

	g.sups = append(g.sups, p)
}

func (g *generator) steps() []Step {
	switch n := g.IntN(100); {
	case n < 45 && len(g.paths) > 0:
		return []Step{g.die(g.paths[g.IntN(len(g.paths))])}

	case n < 78:
		at := &g.sups[g.IntN(len(g.sups))]
		s := g.call(at)
		if g.chance(35) {
			g.byChild(&s, at)
		}
		return []Step{s}

	case n < 83:
		if at := g.sups[g.IntN(len(g.sups))]; at.path != "" {
			return []Step{{Op: Finish, Path: at.path, Reason: g.one("normal", "killed", "killed")}}
		}
		fallthrough

	case n < 90:
		return []Step{{Op: Release}}

	default:
		return g.together(&g.sups[g.IntN(len(g.sups))])
	}
}

func (g *generator) die(path string) Step {
	return Step{Op: Die, Path: path, Reason: g.one("normal", "shutdown", "detail", "crash", "crash", "crash", "panic",
		"goexit", "kill", "kill")}
}

// together returns ends and calls that one supervisor finds in its mailbox at the same time.
func (g *generator) together(at *place) []Step {
	out := []Step{{Op: Hold, Path: at.path}}
	last := ""
	ids := g.Perm(len(at.ids)) // each dies once

	if g.chance(35) { // only the first call may be a child's: rule 60
		s := g.call(at)
		g.byChild(&s, at)
		out = append(out, s)
	}

	for n := 1 + g.IntN(6); n > 0; n-- {
		if g.chance(60) && len(ids) > 0 {
			last, ids = at.ids[ids[0]], ids[1:]
			out = append(out, g.die(join(at.path, last)))
			continue
		}

		s := g.call(at)
		if s.ID != "" && last != "" && g.chance(70) {
			s.ID = last // the child may be restarting when the supervisor serves the call
		}

		out = append(out, s)
	}

	return append(out, Step{Op: Release})
}

func (g *generator) call(at *place) Step {
	s := Step{Path: at.path, ID: "nobody"}
	if len(at.ids) > 0 && !g.chance(5) {
		s.ID = at.ids[g.IntN(len(at.ids))]
	}

	switch n := g.IntN(100); {
	case at.node.Sup.Dynamic && n < 75:
		return g.instance(at)

	case n < 25 && g.left > 0:
		return g.startChild(at)

	case n < 55:
		s.Op = Terminate

	case n < 75:
		s.Op = Restart

	case n < 92:
		s.Op = Delete

	default:
		s.Op = GetSpec
	}

	return s
}

// byChild makes a worker the caller of the step, most often one below the supervisor. Sometimes the
// call names the worker itself.
func (g *generator) byChild(s *Step, at *place) {
	var below []string
	for _, path := range g.paths {
		if within(path, at.path) {
			below = append(below, path)
		}
	}

	if len(below) == 0 || g.chance(10) {
		below = g.paths
	}
	if len(below) == 0 {
		return
	}

	s.By = below[g.IntN(len(below))]
	if s.ID != "" && parentOf(s.By) == at.path && g.chance(25) {
		s.ID = s.By[len(parentOf(s.By)):]
		s.ID = strings.TrimPrefix(s.ID, "/")
	}
}

// instance returns a step that starts an instance of a dynamic supervisor, under a new ID.
func (g *generator) instance(at *place) Step {
	n := Node{ID: g.name()}
	at.ids = append(at.ids, n.ID)
	g.paths = append(g.paths, join(at.path, n.ID))

	if g.chance(40) {
		for i := range 1 + g.IntN(5) {
			o := g.outcome(true)
			if i > 0 && o.Kind == "ignore" { // rule 54
				o.Kind = "boom"
			}
			if i == 0 && g.chance(70) {
				o.Kind = "ok"
			}
			n.Starts = append(n.Starts, o)
		}
	}

	t := at.node.Sup.Children[0]
	if t.Shutdown != supervisor.Brutal && g.chance(20) {
		n.OnStop = OnStop(g.one("normal", "crash", "detail"))
	}

	return Step{Op: Instance, Path: at.path, Child: &n}
}

// startChild returns a step that starts a child: a new one, one that is there already, or one that
// the supervisor must refuse.
func (g *generator) startChild(at *place) Step {
	id := g.name()
	if len(at.ids) > 0 && g.chance(35) {
		id = at.ids[g.IntN(len(at.ids))]
	}

	c := g.node(id, 1+depth(at.path), at.node.Sup.Auto)
	if g.chance(6) { // rule 7
		c.Significant = true
	}

	if g.chance(10) {
		c.Starts = append([]Outcome{{Hang: c.Sup == nil || !c.Sup.Dynamic, Kind: g.one("ok", "boom", "ignore")}},
			c.Starts...)
	}

	known := false
	for _, x := range at.ids {
		known = known || x == id
	}

	if !known {
		at.ids = append(at.ids, id)
		path := at.path
		g.visit(join(path, id), &c)
	}

	return Step{Op: Start, Path: at.path, Child: &c}
}

// depth returns the depth of a supervisor: 0 for the root.
func depth(path string) int {
	n := 0
	for path != "" {
		n++
		path = parentOf(path)
	}
	return n
}
