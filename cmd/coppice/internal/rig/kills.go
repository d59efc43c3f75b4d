package rig

import (
	"strings"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// Root is the path of the host's child whose end is the end of the process.
const Root = "coppice"

var workerWays = []apiv1.How{apiv1.How_HOW_ERROR, apiv1.How_HOW_PANIC, apiv1.How_HOW_GOEXIT, apiv1.How_HOW_HANG}

// EachKill calls kill for every path in a tree that can be killed, with the ways that apply: each
// child in every way, each supervisor by a stop, and any living child of each dynamic supervisor.
// It leaves out the host and Root, whose end is the end of the process. c is the child at the path,
// or the dynamic supervisor of a path that ends in "/*".
func EachKill(root *apiv1.Child, kill func(c *apiv1.Child, path string, ways ...apiv1.How)) {
	var walk func(c *apiv1.Child)
	walk = func(c *apiv1.Child) {
		process := c == root || c.Path == Root
		switch {
		case process && len(c.Children) == 0: // it starts

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
