package command

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// offer sets the values that the shell offers for a flag, each with a tab and its description.
func offer(cmd *cobra.Command, flag string, values ...cobra.Completion) {
	if err := cmd.RegisterFlagCompletionFunc(flag,
		cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // this program names a flag that does not exist
	}
}

// completeTime bounds how long a press of the tab key waits for the node.
const completeTime = time.Second

// completePath offers the paths of the running node's tree. It offers none if no node answers.
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
		if c.Path != t.Root.Path && strings.HasPrefix(c.Path, typed) { // the host cannot be killed
			paths = append(paths, c.Path+"\t"+enumWord(c.GetLive().GetState(), "CHILD_STATE_"))
		}

		if c.GetSpec().GetStrategy() == apiv1.Strategy_STRATEGY_DYNAMIC {
			if p := c.Path + "/*"; strings.HasPrefix(p, typed) {
				paths = append(paths, p+"\tany living child")
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
