package rig

import (
	"strings"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// Root is the path of the child of the host that runs the node. When it ends, the process ends.
const Root = "coppice"

var workerWays = []apiv1.How{apiv1.How_HOW_ERROR, apiv1.How_HOW_PANIC, apiv1.How_HOW_GOEXIT, apiv1.How_HOW_HANG}

// EachKill calls kill for every path in a tree at which something can be killed, with the ways to
// kill it. A supervisor can be stopped. Any other child can be killed in every other way. A path
// that ends in "/*" means any living child of a dynamic supervisor. c is the child at the path, or
// that dynamic supervisor. EachKill leaves out the host and Root, because their end is the end of
// the process.
func EachKill(root *apiv1.Child, kill func(c *apiv1.Child, path string, ways ...apiv1.How)) {
	var walk func(c *apiv1.Child)
	walk = func(c *apiv1.Child) {
		process := c == root || c.Path == Root
		switch {
		case process && len(c.Children) == 0: // the process is starting and has no children yet

		case c.Spec.GetStrategy() == apiv1.Strategy_STRATEGY_DYNAMIC:
			kill(c, c.Path+"/*", workerWays...)
			kill(c, c.Path, apiv1.How_HOW_STOP)

		case c.Type != apiv1.ChildType_CHILD_TYPE_SUPERVISOR:
			kill(c, c.Path, workerWays...)

		default:
			for _, child := range c.Children {
				walk(child)
			}
			if !process {
				kill(c, c.Path, apiv1.How_HOW_STOP)
			}
		}
	}
	walk(root)
}

// HowWord returns the word for a way to kill: HOW_PANIC is "panic".
func HowWord(h apiv1.How) string { return strings.ToLower(strings.TrimPrefix(h.String(), "HOW_")) }
