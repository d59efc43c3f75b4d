package otpdiff

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/coppice-go/coppice/supervisor"
)

// coverage counts the histories that have each feature, and so shows what the comparison compared.
type coverage struct {
	histories uint64
	with      map[string]uint64
}

// add counts one history and its traces.
func (c *coverage) add(h History, s sides) {
	if c.with == nil {
		c.with = map[string]uint64{}
	}

	c.histories++
	f := maps.Clone(s.met)
	f.shape(&h)
	f.deeds(&h, s.otp)
	for k := range f {
		c.with[k]++
	}
}

// String returns a line for each feature, with the number of histories that have it.
func (c *coverage) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "coverage: of %d histories, so many have\n", c.histories)
	for _, k := range slices.Sorted(maps.Keys(c.with)) {
		fmt.Fprintf(&b, "%8d  %s\n", c.with[k], k)
	}
	return b.String()
}

// features are the features of one history.
type features map[string]bool

func (f features) has(format string, a ...any) { f[fmt.Sprintf(format, a...)] = true }

// shape adds the features of the history's data.
func (f features) shape(h *History) {
	levels, children := 0, 0
	var walk func(n *Node, level int)
	walk = func(n *Node, level int) {
		f.child(n)
		if n.Sup == nil {
			return
		}

		levels = max(levels, level)

		if n.Sup.Dynamic {
			f.has("tree: strategy simple_one_for_one")
		} else {
			f.has("tree: strategy %v", n.Sup.Strategy)
			children = max(children, len(n.Sup.Children))
		}

		f.has("tree: intensity %s", map[bool]string{true: "more than 5", false: fmt.Sprint(n.Sup.Max)}[n.Sup.Max > 5])
		f.has("tree: auto_shutdown %v", n.Sup.Auto)
		for i := range n.Sup.Children {
			walk(&n.Sup.Children[i], level+1)
		}
	}
	walk(&h.Root, 1)
	f.has("tree: %d levels of supervisors", levels)
	f.has("tree: %2d children of one supervisor", children)

	for _, s := range h.Steps {
		if s.Child != nil {
			walk(s.Child, strings.Count(s.Path, "/")+2)
		}
	}
}

func (f features) child(n *Node) {
	if n.ID != rootID {
		f.has("tree: restart %v", n.Restart)
		if n.Significant {
			f.has("tree: significant %v", n.Restart)
		}
	}

	switch {
	case n.Sup != nil:
	case n.Shutdown == supervisor.Brutal:
		f.has("tree: shutdown brutal_kill")
	case n.Shutdown == supervisor.Infinity:
		f.has("tree: shutdown infinity of a worker")
	default:
		f.has("tree: shutdown after a time")
	}

	if n.OnStop != "" {
		f.has("tree: obeys by %s", n.OnStop)
	}

	failures := 0

	for _, o := range n.Starts {
		f.has("tree: a start's outcome is %s", o.Kind)
		if o.Hang {
			f.has("tree: a start hangs, then its outcome is %s", o.Kind)
		}

		if o.Kind == "boom" || o.Kind == "panic" || o.Kind == "garbage" {
			failures++
		} else {
			failures = 0
		}

		if failures > 0 {
			f.has("tree: %d starts in a row fail", failures)
		}
	}
}

// deeds adds the features of a trace, step by step.
func (f features) deeds(h *History, trace string) {
	w := watch{features: f, state: map[string]string{}, last: map[string]string{}, blocked: map[string]bool{},
		deaths: map[string]int{}}

	for block := range strings.SplitSeq(trace, "== ") {
		head, body, _ := strings.Cut(block, "\n")
		var k int
		if _, err := fmt.Sscan(head, &k); err == nil && k >= 1 && k <= len(h.Steps) {
			w.step(h.Steps[k-1], body)
		}
		for line := range strings.Lines(body) {
			w.line(h, strings.Fields(line))
		}
	}

	for _, n := range w.deaths {
		w.simultaneous(n)
	}
}

// watch is the state while a trace is read.
type watch struct {
	features
	state   map[string]string // of a child, as listed last
	last    map[string]string // the last line about a child: start, stop or start_error
	blocked map[string]bool   // supervisors
	held    string            // the supervisor that a Hold keeps busy
	holding bool
	deaths  map[string]int // since the last release, of the children of each busy supervisor
}

func (w *watch) simultaneous(n int) {
	if n > 1 {
		w.has("done: %s simultaneous deaths", map[bool]string{true: "3 or more", false: "2"}[n > 2])
	}
}

// step notes a step that was done, and the state of its target at that time.
func (w *watch) step(s Step, body string) {
	first, _, _ := strings.Cut(body, "\n")
	switch first {
	case "absent", "skipped", "over":
		w.has("not done: %s", first)
		return
	}

	where := "its supervisor waits"
	sup := s.Path
	if s.Op == Die {
		sup = parentOf(s.Path)
	}
	if w.holding && sup == w.held || w.blocked[sup] {
		where = "its supervisor is busy"
	}

	if s.By != "" {
		w.byChild(s, where)
	}

	switch s.Op {
	case Die:
		w.has("done: a child ends, %s", s.Reason)
		if where == "its supervisor is busy" {
			w.deaths[sup]++
		}

	case Hold:
		w.holding, w.held = true, s.Path

	case Release:
		for _, n := range w.deaths {
			w.simultaneous(n)
		}
		clear(w.deaths)
		w.holding = false

	case Stop:
		w.has("done: stop, %s", s.Reason)
		if len(w.blocked) > 0 {
			w.has("done: stop while something hangs, %s", s.Reason)
		}

	case Finish:
		w.has("done: a supervisor is ended from outside, %s", s.Reason)

	case Sleep:
		w.has("done: the window expires")

	default:
		id := s.ID
		if s.Child != nil {
			id = s.Child.ID
		}
		state := w.state[join(s.Path, id)]
		if state == "" {
			state = "unknown"
		}

		w.has("done: %s, %s, the child is %s", s.Op, where, state)
	}
}

// byChild notes a call that a child made.
func (w *watch) byChild(s Step, where string) {
	whose := "a supervisor elsewhere"
	if parentOf(s.By) == s.Path {
		whose = "its own supervisor"
	} else if within(s.By, s.Path) {
		whose = "a supervisor above its own"
	}
	w.has("done: a child calls %s, %s", whose, where)
	w.has("done: a child calls %s, %s", whose, s.Op)

	id := s.ID
	if s.Child != nil {
		id = s.Child.ID
	}
	if join(s.Path, id) == s.By {
		w.has("done: a child names itself, %s", s.Op)
	}
}

func (w *watch) line(h *History, f []string) {
	if len(f) == 0 {
		return
	}
	switch f[0] {
	case "start", "stop":
		path, _, _ := strings.Cut(f[1], "#")
		w.last[path] = f[0]
		if f[0] == "stop" {
			w.has("seen: stop, %s", f[2])
		}

	case "end":
		path, _, _ := strings.Cut(f[1], "#")
		delete(w.blocked, strings.TrimPrefix(path, rootID))
		w.has("seen: end of a supervisor, %s", f[2])

	case "report":
		w.has("seen: report %s", f[1])
		if f[1] == "start_error" {
			w.last[f[2]] = f[1]
		}
		if f[1] == "gave_up" {
			w.has("seen: give-up at level %d", strings.Count(f[2], "/")+1)
		}

	case "answer":
		k := 0
		if _, err := fmt.Sscan(strings.TrimSuffix(f[1], ":"), &k); err == nil && k >= 1 && k <= len(h.Steps) {
			answer := f[2]
			if answer == "ok" && len(f) > 3 && f[3] == "none" {
				answer = "ok, no process"
			}
			if answer != "gone" && h.Steps[k-1].Op == GetSpec && answer != "not_found" {
				answer = "a specification"
			}
			w.has("seen: %s answers %s", h.Steps[k-1].Op, answer)
		}

	case "blocked":
		w.blocked[strings.TrimPrefix(f[1], rootID)] = true

	case "which":
		sup := strings.TrimSuffix(f[1], ":")
		if sup == rootID {
			sup = ""
		}

		delete(w.blocked, sup)
		maps.DeleteFunc(w.state, func(path, _ string) bool { return parentOf(path) == sup })

		for _, entry := range f[2:] {
			id, state := entry, "not running"
			if at := strings.IndexAny(entry, "#-~"); at >= 0 {
				id = entry[:at]
				state = map[byte]string{'#': "running", '-': "not running", '~': "restarting"}[entry[at]]
			}

			path := join(sup, id)
			if strings.HasPrefix(id, sup+"/") { // an instance is listed by its path
				path = id
			}

			w.state[path] = state
			if state == "not running" && w.last[path] == "start_error" {
				w.has("done: terminate_child while the child is restarting")
			}
		}
	}
}
