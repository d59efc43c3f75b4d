package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// offer completes the values of a flag.
func offer(cmd *cobra.Command, flag string, values ...cobra.Completion) {
	if err := cmd.RegisterFlagCompletionFunc(flag,
		cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // a mistake in this program: there is no such flag
	}
}

// completeTime is how long whoever presses the tab key waits for a node.
const completeTime = time.Second

// completePath offers the paths of the running node's tree; without a node there are none to offer.
func (a *app) completePath(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion,
	cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}

	ctx, cancel := context.WithTimeout(cmd.Context(), completeTime)
	defer cancel()

	t, err := a.client().Tree(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}

	var paths []cobra.Completion
	var walk func(*apiv1.Child)
	walk = func(c *apiv1.Child) {
		if c.Path != t.Root.Path && strings.HasPrefix(c.Path, typed) { // the host is not in the tree that it hosts
			paths = append(paths, c.Path+"\t"+enumWord(c.GetLive().GetState(), "CHILD_STATE_"))
		}

		if c.GetSpec().GetStrategy() == apiv1.Strategy_STRATEGY_DYNAMIC {
			if p := c.Path + "/*"; strings.HasPrefix(p, typed) {
				paths = append(paths, p+"\tany that lives")
			}
			return
		}

		for _, child := range c.Children {
			walk(child)
		}
	}
	walk(t.Root)

	return paths, cobra.ShellCompDirectiveNoFileComp
}
