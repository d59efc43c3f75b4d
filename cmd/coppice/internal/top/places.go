package top

import (
	"slices"
	"strings"
	"time"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// markFor is how long a place that has changed is marked.
const markFor = 3 * time.Second

// place is one place of the tree.
type place struct {
	*apiv1.Child // its children are in kids
	kids         []*place
	up           *place
	changed      time.Time
}

// places is the tree of a node: a snapshot, and the changes after it.
type places struct {
	root *place
	by   map[string]*place
}

// reset replaces the tree by a snapshot. Places that differ from before are marked, unless there
// was no tree.
func (t *places) reset(c *apiv1.Child, now time.Time) {
	old := t.by
	t.by = map[string]*place{}
	t.root = t.build(c, nil, old, now)
}

// build makes the places of c and of what is below it. old has the places before.
func (t *places) build(c *apiv1.Child, up *place, old map[string]*place, now time.Time) *place {
	p := &place{Child: c, up: up}
	switch before, ok := old[c.Path]; {
	case ok && same(before.Child, c):
		p.changed = before.changed
	case len(old) > 0:
		p.changed = now
	}
	t.by[c.Path] = p

	for _, child := range c.Children {
		p.kids = append(p.kids, t.build(child, p, old, now))
	}
	c.Children = nil

	return p
}

// same reports whether two looks at a place show nothing that is worth a mark.
func same(a, b *apiv1.Child) bool {
	x, y := a.GetLive(), b.GetLive()
	return x.GetState() == y.GetState() && x.GetIncarnation() == y.GetIncarnation() &&
		x.GetRestarts() == y.GetRestarts() && x.GetLastExit() == y.GetLastExit()
}

// apply makes one change.
func (t *places) apply(c *apiv1.ChildChange, now time.Time) {
	at := c.Child.GetPath()
	p := t.by[at]

	switch {
	case c.Gone:
		if p != nil {
			t.drop(p)
		}
		return

	case p == nil:
		up := t.above(at)
		if up == nil {
			return // below a place that is gone
		}
		p = t.build(c.Child, up, nil, now)
		p.changed = now
		up.kids = append(up.kids, p)
		return
	}

	if !same(p.Child, c.Child) {
		p.changed = now
	}
	kids := c.Child.Children
	c.Child.Children = nil
	p.Child = c.Child

	if c.Whole {
		old := map[string]*place{at: p} // not empty: what is new below the place is marked
		for _, k := range p.kids {
			t.forget(k, old)
		}
		p.kids = nil
		for _, k := range kids {
			p.kids = append(p.kids, t.build(k, p, old, now))
		}
	}
}

// above returns the place above a path; nil if it is not there. The paths below the root do not
// begin with the root's.
func (t *places) above(at string) *place {
	i := strings.LastIndexByte(at, '/')
	if i >= 0 {
		return t.by[at[:i]]
	}
	if t.root == nil || at == t.root.Path {
		return nil
	}
	return t.root
}

// drop removes a place and what is below it.
func (t *places) drop(p *place) {
	if p.up == nil {
		t.root, t.by = nil, map[string]*place{}
		return
	}
	if i := slices.Index(p.up.kids, p); i >= 0 {
		p.up.kids = slices.Delete(p.up.kids, i, i+1)
	}
	t.forget(p, nil)
}

// forget takes p and what is below it out of the index, and puts them into old.
func (t *places) forget(p *place, old map[string]*place) {
	delete(t.by, p.Path)
	if old != nil {
		old[p.Path] = p
	}
	for _, k := range p.kids {
		t.forget(k, old)
	}
}

// plainly reports whether there is nothing to say of a place: it runs, and has not changed lately.
// Children of a dynamic supervisor come and go all the time.
func (p *place) plainly(now time.Time) bool {
	if p.GetLive().GetState() != apiv1.ChildState_CHILD_STATE_RUNNING || p.near() {
		return false
	}
	return !p.marked(now) || p.up != nil && p.up.dynamic()
}

func (p *place) marked(now time.Time) bool { return now.Sub(p.changed) < markFor }

// near reports whether a supervisor has used up its limit: the next restart is one too many.
func (p *place) near() bool {
	most := p.GetSpec().GetMaxRestarts()
	return most > 0 && p.GetLive().GetInWindow() >= most
}

func (p *place) supervisor() bool { return p.Type == apiv1.ChildType_CHILD_TYPE_SUPERVISOR }

func (p *place) dynamic() bool { return p.GetSpec().GetStrategy() == apiv1.Strategy_STRATEGY_DYNAMIC }

// row is a place as the tree shows it.
type row struct {
	*place
	depth  int
	last   []bool // of each level: the place is the last one of its siblings
	folded bool
}

// rows returns the places that the tree shows, from the top. Collapsed places hide what is below
// them. With a search, only the places that match it are there, with those above them.
func (t *places) rows(folded func(*place) bool, search string, keep func(*place) bool) (out []row) {
	if t.root == nil {
		return nil
	}

	search = strings.ToLower(search)
	var hits map[*place]bool
	if search != "" || keep != nil {
		hits = t.hits(search, keep)
	}

	var walk func(p *place, depth int, last []bool)
	walk = func(p *place, depth int, last []bool) {
		if hits != nil && !hits[p] {
			return
		}

		r := row{place: p, depth: depth, last: last, folded: hits == nil && len(p.kids) > 0 && folded(p)}
		out = append(out, r)
		if r.folded {
			return
		}

		shown := p.kids
		if hits != nil {
			shown = slices.DeleteFunc(slices.Clone(p.kids), func(k *place) bool { return !hits[k] })
		}
		for i, k := range shown {
			walk(k, depth+1, append(slices.Clip(last), i == len(shown)-1))
		}
	}
	walk(t.root, 0, nil)

	return out
}

// hits returns the places that match, and those above them.
func (t *places) hits(search string, keep func(*place) bool) map[*place]bool {
	hits := map[*place]bool{t.root: true}
	for _, p := range t.by {
		match := strings.Contains(strings.ToLower(p.Path), search) ||
			strings.Contains(strings.ToLower(p.GetLive().GetLastExit()), search)
		if !match || keep != nil && !keep(p) {
			continue
		}
		for up := p; up != nil && !hits[up]; up = up.up {
			hits[up] = true
		}
	}
	return hits
}
