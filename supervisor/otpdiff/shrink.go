package otpdiff

import (
	"slices"

	"github.com/coppice-go/coppice/supervisor"
)

// maxTries bounds how many smaller histories are played for one that differs.
const maxTries = 3000

// shrink makes a history smaller as long as differs holds: fewer steps, fewer children, plainer
// children. The history that it returns still differs.
func shrink(h History, differs func(History) bool) History {
	tries := 0
	for again := true; again; {
		again = false
		for _, smaller := range reductions(h) {
			if tries++; tries > maxTries {
				return h
			}
			c := h.clone()
			if smaller(&c) && differs(c) {
				h, again = c, true
				break
			}
		}
	}

	return h
}

// reductions returns functions that make a history smaller, those that remove most first. Each
// returns false if it changed nothing.
func reductions(h History) []func(*History) bool {
	var out []func(*History) bool
	steps := len(h.Steps)
	if steps > 0 && h.Steps[steps-1].Op == Stop {
		steps-- // it opens the gates, so it stays
	}

	for size := steps; size >= 1; size /= 2 {
		for from := 0; from < steps; from += size {
			to := min(from+size, steps)
			out = append(out, func(c *History) bool {
				c.Steps = slices.Delete(c.Steps, from, to)
				return true
			})
		}
	}

	for i := range h.Steps {
		out = append(out, func(c *History) bool { return zero(&c.Steps[i].By) })
	}

	for i := range h.nodes() {
		if s := h.nodes()[i].Sup; s != nil && !s.Dynamic {
			for j := range s.Children {
				out = append(out, func(c *History) bool {
					s := c.nodes()[i].Sup
					s.Children = slices.Delete(s.Children, j, j+1)
					return true
				})
			}
		}
		for _, plainer := range plainer {
			out = append(out, func(c *History) bool { return plainer(c.nodes()[i]) })
		}
	}

	return out
}

// plainer has functions that change one property of a node towards its zero value.
var plainer = []func(*Node) bool{
	func(n *Node) bool { return n.ID != rootID && zero(&n.Sup) },
	func(n *Node) bool { return zero(&n.Starts) },
	func(n *Node) bool { return drop(&n.Starts, len(n.Starts)-1) },
	func(n *Node) bool { return drop(&n.Starts, 0) },
	func(n *Node) bool { return drop(&n.Starts, 1) },
	func(n *Node) bool {
		changed := false
		for i := range n.Starts {
			changed = zero(&n.Starts[i].Hang) || changed
		}
		return changed
	},
	func(n *Node) bool { return zero(&n.OnStop) },
	func(n *Node) bool { return n.OnStop != "deaf" && zero(&n.Shutdown) },
	func(n *Node) bool { return zero(&n.Significant) },
	func(n *Node) bool { return !n.Significant && zero(&n.Restart) },
	func(n *Node) bool { return n.Sup != nil && zero(&n.Sup.Strategy) },
	func(n *Node) bool {
		if n.Sup == nil || n.Sup.Auto == supervisor.Never {
			return false
		}

		for _, c := range n.Sup.Children {
			if c.Significant {
				return false
			}
		}

		return zero(&n.Sup.Auto)
	},
	func(n *Node) bool {
		if n.Sup == nil || n.Sup.Max == 0 {
			return false
		}
		n.Sup.Max--
		return true
	},
}

// zero sets *v to its zero value and reports whether that changed it.
func zero[T any](v *T) bool {
	var none T
	if same(*v, none) {
		return false
	}
	*v = none
	return true
}

func same[T any](a, b T) bool {
	switch a := any(a).(type) {
	case []Outcome:
		return a == nil
	case *Sup:
		return a == nil
	default:
		return a == any(b)
	}
}

// drop removes the i-th of several outcomes.
func drop(o *[]Outcome, i int) bool {
	if len(*o) < 2 || i >= len(*o) {
		return false
	}
	*o = slices.Delete(*o, i, i+1)
	return true
}

// nodes returns all nodes: the root first, those of start_child last. The order depends on the
// shape only.
func (h *History) nodes() []*Node {
	var out []*Node
	var walk func(n *Node)
	walk = func(n *Node) {
		out = append(out, n)
		if n.Sup != nil {
			for i := range n.Sup.Children {
				walk(&n.Sup.Children[i])
			}
		}
	}
	walk(&h.Root)

	for i := range h.Steps {
		if h.Steps[i].Child != nil {
			walk(h.Steps[i].Child)
		}
	}

	return out
}

func (h History) clone() History {
	c := History{Root: h.Root.clone(), Steps: slices.Clone(h.Steps)}
	for i, s := range c.Steps {
		if s.Child != nil {
			n := s.Child.clone()
			c.Steps[i].Child = &n
		}
	}
	return c
}

func (n Node) clone() Node {
	n.Starts = slices.Clone(n.Starts)
	if n.Sup != nil {
		s := *n.Sup
		s.Children = nil
		for _, c := range n.Sup.Children {
			s.Children = append(s.Children, c.clone())
		}
		n.Sup = &s
	}

	return n
}
