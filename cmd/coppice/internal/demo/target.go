package demo

import (
	"context"

	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// sigkill is the way that no supervisor sees: the process's end.
const sigkill apiv1.How = -1

// target is one kill to make.
type target struct {
	path string
	how  apiv1.How
}

// root is the child of the host whose end is the process's end.
const root = "coppice"

var workerWays = []apiv1.How{apiv1.How_HOW_ERROR, apiv1.How_HOW_PANIC, apiv1.How_HOW_GOEXIT, apiv1.How_HOW_HANG}

// targets reads the tree, under load so that there are workers.
func (d *demo) targets(ctx context.Context) ([]target, error) {
	if err := d.rig.Grow(ctx, between); err != nil {
		return nil, err
	}
	t, err := d.rig.Client.Tree(ctx)
	if err != nil {
		return nil, err
	}
	return d.targetsOf(t), nil
}

// targetsOf answers all kills: each child in every way, each supervisor stopped, any living child
// of each dynamic supervisor that has some, the process last.
func (d *demo) targetsOf(t *apiv1.TreeResponse) []target {
	var out []target
	turn := 0
	add := func(path string, ways ...apiv1.How) {
		if d.Quick {
			ways = ways[turn%len(ways):][:1]
			turn++
		}
		for _, how := range ways {
			out = append(out, target{path, how})
		}
	}
	var walk func(c *apiv1.Child)
	walk = func(c *apiv1.Child) {
		switch {
		case c.Spec.GetStrategy() == apiv1.Strategy_STRATEGY_DYNAMIC:
			if c.Live.GetInstances() > 0 || isWorkers(c) {
				add(c.Path+"/*", workerWays...)
			}
			add(c.Path, apiv1.How_HOW_STOP)
			return

		case c.Type == apiv1.ChildType_CHILD_TYPE_SUPERVISOR:
			for _, child := range c.Children {
				walk(child)
			}
			if c != t.Root && c.Path != root { // the host is the process, and so is the root
				add(c.Path, apiv1.How_HOW_STOP)
			}

		default:
			add(c.Path, workerWays...)
		}
	}
	walk(t.Root)
	if d.Shuffle {
		d.rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	}

	out = append(out, target{root, apiv1.How_HOW_STOP})
	for range d.SIGKILLs {
		out = append(out, target{"(the process)", sigkill})
	}

	return out
}

// isWorkers tells the supervisor whose children come and go with the load: none may live at the
// moment of the look.
func isWorkers(c *apiv1.Child) bool { return c.Id == "workers" }
