package demo

import (
	"path"
	"slices"
	"strings"

	"github.com/coppice-go/coppice/cmd/coppice/internal/rig"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// notRunning returns the path of a child that does not run, or whose incarnation is still the one
// in old. It returns "" if there is none. It ignores the children of dynamic supervisors, which
// come and go.
func notRunning(c *apiv1.Child, old map[string]uint64) string {
	if c.Live.GetState() != apiv1.ChildState_CHILD_STATE_RUNNING ||
		old[c.Path] != 0 && old[c.Path] == c.Live.GetIncarnation() {
		return c.Path
	}

	if c.Spec.GetStrategy() == apiv1.Strategy_STRATEGY_DYNAMIC {
		return ""
	}

	for _, child := range c.Children {
		if p := notRunning(child, old); p != "" {
			return p
		}
	}

	return ""
}

// restarted names the children that have another incarnation than before. A supervisor stands for
// everything below it, and "x/*" for all children of x if x itself went on.
func restarted(before, after *apiv1.TreeResponse) []string {
	if before.Pid != after.Pid {
		return []string{"the process"}
	}

	was := incarnations(before.Root)
	changed := func(c *apiv1.Child) bool {
		old, there := was[c.Path]
		return there && old != c.Live.GetIncarnation()
	}
	var out []string
	var look func(c *apiv1.Child)
	look = func(c *apiv1.Child) {
		if changed(c) {
			out = append(out, c.Id)
			return
		}

		if c.Spec.GetStrategy() == apiv1.Strategy_STRATEGY_DYNAMIC {
			return
		}

		all := len(c.Children) > 1
		for _, child := range c.Children {
			all = all && changed(child)
		}

		if all {
			out = append(out, c.Id+"/*")
			return
		}

		for _, child := range c.Children {
			look(child)
		}
	}
	look(after.Root)

	return out
}

// scope returns the paths of the children that are restarted when the child at killed fails. The
// strategy of its supervisor decides whether these are the child alone or its siblings too. A
// supervisor that allows no restart fails itself, so scope goes on with the supervisor's own path.
// It does the same for a dynamic supervisor, which never restarts its children: a failure of one
// makes the dynamic supervisor fail, or the sibling that watches the child.
func scope(t *apiv1.TreeResponse, killed string) []string {
	for {
		parent := lookup(t.Root, path.Dir(killed))
		switch {
		case parent == nil || killed == rig.Root:
			return []string{killed}

		case parent.Spec.GetStrategy() == apiv1.Strategy_STRATEGY_DYNAMIC, parent.Spec.GetMaxRestarts() == 0:
			killed = parent.Path

		case parent.Spec.GetStrategy() == apiv1.Strategy_STRATEGY_ONE_FOR_ONE:
			return []string{killed}

		default:
			var all []string
			for _, c := range parent.Children {
				all = append(all, c.Path)
			}
			if parent.Spec.GetStrategy() == apiv1.Strategy_STRATEGY_REST_FOR_ONE {
				all = all[slices.Index(all, killed):]
			}
			return all
		}
	}
}

// wider returns the paths of the supervisors outside of the scope that were restarted. Restarts
// within the scope can exceed a limit, and then a supervisor above it fails. wider does not return
// other children outside of the scope: one that calls a failed child may rightly fail as well.
func wider(before, after *apiv1.TreeResponse, killed string) []string {
	in := scope(before, killed)
	was := incarnations(before.Root)
	var out []string
	var look func(c *apiv1.Child)
	look = func(c *apiv1.Child) {
		within := slices.ContainsFunc(in, func(p string) bool {
			return c.Path == p || strings.HasPrefix(c.Path, p+"/")
		})

		if within {
			return
		}

		if old, there := was[c.Path]; there && old != c.Live.GetIncarnation() &&
			c.Type == apiv1.ChildType_CHILD_TYPE_SUPERVISOR {
			out = append(out, c.Path)
			return
		}

		for _, child := range c.Children {
			look(child)
		}
	}
	look(after.Root)

	return out
}

// lookup returns the child at a path, or nil.
func lookup(c *apiv1.Child, at string) *apiv1.Child {
	if c.Path == at {
		return c
	}

	for _, child := range c.Children {
		if found := lookup(child, at); found != nil {
			return found
		}
	}

	return nil
}

// incarnationsOf returns the incarnation numbers at the given paths.
func incarnationsOf(c *apiv1.Child, paths []string) map[string]uint64 {
	all := incarnations(c)
	m := make(map[string]uint64, len(paths))
	for _, p := range paths {
		m[p] = all[p]
	}
	return m
}

// incarnations returns the incarnation number at each path.
func incarnations(c *apiv1.Child) map[string]uint64 {
	m := make(map[string]uint64)
	var note func(c *apiv1.Child)
	note = func(c *apiv1.Child) {
		m[c.Path] = c.Live.GetIncarnation()
		for _, child := range c.Children {
			note(child)
		}
	}
	note(c)
	return m
}
