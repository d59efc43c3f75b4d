package command

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coppice-go/coppice/cmd/coppice/internal/testnet"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/offline"
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

// completeKey offers the keys of the configuration for every argument.
func completeKey(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return keyCompletions(""), cobra.ShellCompDirectiveNoFileComp
}

// completeAssignment offers the keys of the configuration for --set, and after "KEY=" the values of
// a key that has few.
func completeAssignment(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	name, _, ok := strings.Cut(typed, "=")
	if !ok {
		return keyCompletions("="), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}

	var values []cobra.Completion
	for _, k := range config.Keys() {
		if k.Name == name {
			for _, v := range valuesOf(k) {
				values = append(values, name+"="+v)
			}
		}
	}

	return values, cobra.ShellCompDirectiveNoFileComp
}

// keyCompletions returns each key with a suffix, and its description.
func keyCompletions(suffix string) (keys []cobra.Completion) {
	for _, k := range config.Keys() {
		doc, _, _ := strings.Cut(k.Doc, ". ")
		keys = append(keys, k.Name+suffix+"\t"+strings.TrimSuffix(doc, "."))
	}
	return keys
}

// valuesOf returns the values that a key may have, if they are few.
func valuesOf(k config.Key) []string {
	if k.Type() == "boolean" {
		return []string{"true", "false"}
	}
	return k.OneOf
}

// profiles offers the profiles of the tree's limits.
func profiles(cmd *cobra.Command, flag string) {
	offer(cmd, flag, "default\tthe limits of docs/architecture.md",
		"strict\tany failure of the transaction core restarts the node", "chaos\tfor runs that kill all the time")
}

// completeList offers values for a flag that takes a list separated by commas.
func completeList(cmd *cobra.Command, flag string, values []string) {
	if err := cmd.RegisterFlagCompletionFunc(flag,
		func(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
			before := typed[:strings.LastIndex(typed, ",")+1]
			var list []cobra.Completion
			for _, v := range values {
				list = append(list, before+v)
			}
			return list, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		}); err != nil {
		panic(err) // this program names a flag that does not exist
	}
}

// completeSnapshot offers the ids of the home's snapshots, the newest first, for a first argument.
func (a *app) completeSnapshot(_ *cobra.Command, args []string, _ string) ([]cobra.Completion,
	cobra.ShellCompDirective) {
	const directive = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	if len(args) > 0 {
		return nil, directive
	}

	list, err := offline.Snapshots(a.home)
	if err != nil {
		return nil, directive
	}

	var ids []cobra.Completion
	for _, e := range slices.Backward(list) {
		ids = append(ids, fmt.Sprintf("%s\theight %d, taken %s", e.ID, e.Height, e.Created.Format(time.RFC3339)))
	}

	return ids, directive
}

// completeNode offers the numbers of a testnet's nodes for a first argument, and then what testnet
// kill kills in one.
func (a *app) completeNode(open func() (*testnet.Net, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		n, err := open()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}

		if len(args) == 0 {
			var nodes []cobra.Completion
			for i := range n.Nodes {
				nodes = append(nodes, fmt.Sprint(i))
			}
			return nodes, cobra.ShellCompDirectiveNoFileComp
		}

		i, err := strconv.Atoi(args[0])
		if len(args) > 1 || err != nil || i < 0 || i >= n.Nodes {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}

		paths, directive := a.at(n.Home(i)).completePath(cmd, nil, typed)
		return append(paths, "comet\tits CometBFT"), directive
	}
}
